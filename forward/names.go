package forward

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// aliases are names that kill(1) knows beside those of the table.
var aliases = map[string]syscall.Signal{"IOT": unix.SIGABRT, "CLD": unix.SIGCHLD, "POLL": unix.SIGIO}

// Name gives a signal's name without its prefix (TERM, USR1, RTMIN+3), or its number where it has none.
func Name(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	if sig >= firstRealTime && sig <= Last {
		return fmt.Sprintf("RTMIN+%d", sig-firstRealTime)
	}
	return fmt.Sprint(int(sig))
}

// Parse reads a signal as kill(1) does: a name with or without its prefix, in whatever case, or a number.
func Parse(text string) (syscall.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	sig, known := aliases[name]
	if !known {
		sig = unix.SignalNum("SIG" + name)
	}
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		sig = syscall.Signal(n)
	}
	if from, ok := strings.CutPrefix(name, "RTMIN"); ok {
		sig = realTime(firstRealTime, "+", from)
	} else if back, ok := strings.CutPrefix(name, "RTMAX"); ok {
		sig = realTime(Last, "-", back)
	}
	if sig < 1 || sig > Last {
		return 0, fmt.Errorf("%q is no signal", text)
	}
	return sig, nil
}

// realTime is the real-time signal so far from an end of their range, or 0.
func realTime(end syscall.Signal, direction, distance string) syscall.Signal {
	n := uint64(0)
	if distance != "" {
		digits, ok := strings.CutPrefix(distance, direction)
		var err error
		if n, err = strconv.ParseUint(digits, 10, 8); !ok || err != nil {
			return 0
		}
	}
	sig := end + syscall.Signal(n)
	if direction == "-" {
		sig = end - syscall.Signal(n)
	}
	if sig < firstRealTime || sig > Last {
		return 0
	}
	return sig
}

// Names lists the signals that have one, by number.
func Names() (names []string) {
	for sig := syscall.Signal(1); sig <= Last; sig++ {
		if unix.SignalName(sig) != "" || sig >= firstRealTime {
			names = append(names, Name(sig))
		}
	}
	return names
}
