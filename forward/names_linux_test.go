package forward

import (
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse_formsOfKill(t *testing.T) {
	for text, want := range map[string]syscall.Signal{
		"TERM": unix.SIGTERM, "SIGTERM": unix.SIGTERM, "term": unix.SIGTERM, "sigTerm": unix.SIGTERM,
		"IOT": unix.SIGABRT, "CLD": unix.SIGCHLD, "SIGPOLL": unix.SIGIO, "1": unix.SIGHUP, "KILL": unix.SIGKILL,
		"RTMIN": 34, "RTMIN+3": 37, "SIGRTMIN+30": 64, "rtmin+0": 34, "RTMAX": 64, "RTMAX-2": 62, "RTMAX-30": 34,
		"64": 64, "33": 33, "15": unix.SIGTERM,
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "0", "-15", "+15", "65", "1e1", "65551", "99999999999999999999", "TREM", "SIG", "SIGSIGTERM", "SIG15",
		" TERM", "TERM ",
		"RTMIN-1", "RTMIN+31", "RTMIN+", "RTMIN3", "RTMIN+-1", "RTMIN++1", "RTMAX+1", "RTMAX-31", "RTMAX-", "RTMIN+255",
	} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q is read as %d, want an error", text, got)
		} else if want := strconv.Quote(text) + " is not a signal"; err.Error() != want {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
}

func TestParse_everyName(t *testing.T) {
	names := Names()
	if len(names) != 62 { // 64 numbers minus the two that C libraries reserve
		t.Errorf("%d names: %v", len(names), names)
	}
	for _, name := range names {
		if sig, err := Parse(strings.ToLower(name)); err != nil || Name(sig) != name {
			t.Errorf("%s is read as %d (%s), %v", name, sig, Name(sig), err)
		}
	}
}
