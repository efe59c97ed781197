package forward

import (
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The signal table, number by number.
func TestMeaningOfEverySignal(t *testing.T) {
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

// However many come before the first is read, one of each kind is heard, and one only.
func TestNoKindOfSignalIsLost(t *testing.T) {
	l := Listen(nil)
	want := map[syscall.Signal]bool{}
	for sig := syscall.Signal(1); sig <= Last; sig++ {
		if m := MeaningOf(sig); m == Pass || m == Stop {
			want[sig] = true
		}
	}
	for sig := range want {
		if err := unix.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.After(time.Minute); len(want) > 0; {
		select {
		case sig := <-l.Signals:
			if !want[sig] {
				t.Errorf("%s came twice, or is not for us", Name(sig))
			}
			delete(want, sig)
		case <-deadline:
			t.Fatalf("lost: %v", want)
		}
	}
}

// What waits together is taken with SIGCONT last, whatever the numbers say.
func TestContinuesComeAfterTheStopsThatTheyWaitedWith(t *testing.T) {
	l := &Listener{heard: map[syscall.Signal]chan os.Signal{}}
	for _, sig := range []syscall.Signal{unix.SIGCONT, unix.SIGTSTP, unix.SIGTTOU} {
		l.heard[sig] = make(chan os.Signal, 1)
	}
	l.heard[unix.SIGTSTP] <- unix.SIGTSTP
	if got := l.pending(unix.SIGCONT); len(got) != 2 || got[0] != unix.SIGTSTP || got[1] != unix.SIGCONT {
		t.Errorf("taken as %v", got)
	}
	l.heard[unix.SIGCONT] <- unix.SIGCONT
	if got := l.pending(unix.SIGTTOU); len(got) != 2 || got[1] != unix.SIGCONT {
		t.Errorf("taken as %v", got)
	}
}
