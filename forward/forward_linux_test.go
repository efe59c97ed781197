package forward

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// MeaningOf returns the meaning that this test lists, and Pass for every other signal number.
func TestMeaningOf_everySignal(t *testing.T) {
	special := map[syscall.Signal]Meaning{
		unix.SIGTERM: Stop, unix.SIGINT: Stop, unix.SIGQUIT: Stop,
		unix.SIGTSTP: Suspend, unix.SIGTTIN: Suspend, unix.SIGTTOU: Suspend,
		unix.SIGCHLD: Ours, unix.SIGPIPE: Ours, unix.SIGURG: Ours,
		unix.SIGKILL: Uncatchable, unix.SIGSTOP: Uncatchable, unix.SIGILL: Uncatchable, unix.SIGTRAP: Uncatchable,
		unix.SIGBUS: Uncatchable, unix.SIGFPE: Uncatchable, unix.SIGSEGV: Uncatchable, unix.SIGSYS: Uncatchable,
		unix.SIGSTKFLT: Uncatchable, unix.SIGPROF: Uncatchable, 32: Uncatchable, 33: Uncatchable, 34: Uncatchable,
		-1: Uncatchable, 0: Uncatchable, 65: Uncatchable,
	}
	for sig := syscall.Signal(-1); sig <= 65; sig++ {
		want, ok := special[sig]
		if !ok {
			want = Pass
		}
		if got := MeaningOf(sig); got != want {
			t.Errorf("signal %d (%s) means %d, want %d", sig, Name(sig), got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for sig, want := range map[syscall.Signal]string{
		unix.SIGTERM: "TERM", unix.SIGUSR1: "USR1", 34: "RTMIN+0", 37: "RTMIN+3", 64: "RTMIN+30", 33: "33", 99: "99",
	} {
		if got := Name(sig); got != want {
			t.Errorf("signal %d is called %s, want %s", int(sig), got, want)
		}
	}
}
