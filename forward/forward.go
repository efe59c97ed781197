// Package forward decides the effect of each signal on a run. It never sends or receives a signal.
package forward

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Meaning is what graceful does when it receives a signal.
type Meaning uint8

const (
	// Pass: graceful forwards the signal to the target.
	Pass Meaning = iota
	// Stop: graceful begins a stop, which by default forwards the signal.
	Stop
	// Suspend: graceful suspends the target's group and then itself (job control).
	Suspend
	// Ours: graceful uses the signal itself, and never forwards it.
	Ours
	// Uncatchable: the kernel or the Go runtime handles the signal, and graceful never receives it.
	Uncatchable
)

// MeaningOf returns the meaning of a signal. A number outside 1..Last is Uncatchable.
func MeaningOf(sig syscall.Signal) Meaning {
	switch sig {
	case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT:
		return Stop
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return Suspend
	case unix.SIGCHLD, // graceful reaps its children when it arrives
		unix.SIGPIPE, // graceful's own writes cause it
		unix.SIGURG:  // the Go runtime uses it to preempt goroutines, hundreds of times a second
		return Ours
	}
	if sig < 1 || sig > Last || slices.Contains(uncatchable, sig) {
		return Uncatchable
	}
	return Pass
}

// MeaningIn does what MeaningOf does for a run whose stop signals are stopOn; nil means the default list. A signal of
// the default list that is not in stopOn becomes Pass. stopOn does not change the meanings Ours and Uncatchable.
func MeaningIn(sig syscall.Signal, stopOn []int) Meaning {
	switch m := MeaningOf(sig); {
	case stopOn == nil || m == Ours || m == Uncatchable:
		return m
	case slices.Contains(stopOn, int(sig)):
		return Stop
	case m == Stop:
		return Pass
	default:
		return m
	}
}

// StopSignals lists the signals that stop a run by default.
func StopSignals() []syscall.Signal { return []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT} }

// Deliverable lists the signals that a listener delivers: those that are neither Ours nor Uncatchable.
func Deliverable() (signals []syscall.Signal) {
	for sig := syscall.Signal(1); sig <= Last; sig++ {
		if m := MeaningOf(sig); m != Ours && m != Uncatchable {
			signals = append(signals, sig)
		}
	}
	return signals
}

// aliases lists more names that kill(1) accepts.
var aliases = map[string]syscall.Signal{"IOT": unix.SIGABRT, "CLD": unix.SIGCHLD, "POLL": unix.SIGIO}

// Name returns the name of a signal without its prefix (TERM, USR1, RTMIN+3), or the number if the signal has no name.
func Name(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	if sig >= firstRealTime && sig <= Last {
		return fmt.Sprintf("RTMIN+%d", sig-firstRealTime)
	}
	return fmt.Sprint(int(sig))
}

// Parse reads a signal as kill(1) does. The text is a name in upper or lower case, with or without its prefix, or a
// number.
func Parse(text string) (syscall.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	sig := cmp.Or(aliases[name], unix.SignalNum("SIG"+name))
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		sig = syscall.Signal(n)
	}
	if distance, ok := strings.CutPrefix(name, "RTMIN"); ok {
		sig = realTime(firstRealTime, "+", distance)
	} else if distance, ok := strings.CutPrefix(name, "RTMAX"); ok {
		sig = realTime(Last, "-", distance)
	}
	if sig < 1 || sig > Last {
		return 0, fmt.Errorf("%q is not a signal", text)
	}
	return sig, nil
}

// realTime returns the signal at a distance from one end of the range of real-time signals, or 0 if there is no such
// signal. The distance is empty, or a sign and a number.
func realTime(end syscall.Signal, sign, distance string) syscall.Signal {
	distance = cmp.Or(distance, sign+"0")
	n, err := strconv.ParseInt(distance, 10, 16)
	sig := end + syscall.Signal(n)
	if err != nil || !strings.HasPrefix(distance, sign) || sig < firstRealTime || sig > Last {
		return 0
	}
	return sig
}

// Names lists the names of all signals that have one, in the order of their numbers.
func Names() (names []string) {
	for sig := syscall.Signal(1); sig <= Last; sig++ {
		if unix.SignalName(sig) != "" || sig >= firstRealTime {
			names = append(names, Name(sig))
		}
	}
	return names
}
