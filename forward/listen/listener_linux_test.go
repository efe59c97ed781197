package listen

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/forward"
	"graceful/runner/procfs"
)

// listen starts a Listener for one test. After the test, that Listener takes no more signals.
func listen(t *testing.T, ignored ...syscall.Signal) *Listener {
	t.Helper()
	l, err := Start(ignored)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(l.closed)
		signal.Reset()
	})
	return l
}

// hears sends a signal to this process, and fails the test unless the Listener delivers it in time.
func hears(t *testing.T, l *Listener, sig syscall.Signal) {
	t.Helper()
	if err := unix.Kill(os.Getpid(), sig); err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(time.Minute); ; {
		select {
		case got := <-l.Signals:
			if got == sig {
				return
			}
		case <-deadline:
			t.Fatalf("%s was not delivered", forward.Name(sig))
		}
	}
}

func ignores(t *testing.T, when string, want map[syscall.Signal]bool) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	status, err := procfs.ParseStatus(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for sig, ignored := range want {
		if (set(status.Ignored)&setOf(sig) != 0) != ignored {
			t.Errorf("%s: %s is ignored: %t, want %t", when, forward.Name(sig), !ignored, ignored)
		}
	}
}

// Signals that were ignored when graceful was started are ignored at each fork, because a child inherits them. Between
// forks graceful catches them, except those of job control. It never ignores SIGCHLD, which it needs, or SIGURG, which
// the Go runtime needs.
func TestListener_signalsThatTheParentIgnored(t *testing.T) {
	l := listen(t, unix.SIGINT, unix.SIGUSR2, unix.SIGTSTP, unix.SIGCHLD, unix.SIGURG)
	atFork := map[syscall.Signal]bool{
		unix.SIGINT: true, unix.SIGUSR2: true, unix.SIGTSTP: true,
		unix.SIGTERM: false, unix.SIGCHLD: false, unix.SIGURG: false,
	}
	between := map[syscall.Signal]bool{
		unix.SIGINT: false, unix.SIGUSR2: false, unix.SIGTSTP: true,
		unix.SIGTERM: false, unix.SIGCHLD: false, unix.SIGURG: false,
	}
	ignores(t, "before the target", atFork)
	hears(t, l, unix.SIGTERM)
	l.CatchIgnored()
	ignores(t, "after the target's start", between)
	hears(t, l, unix.SIGINT)
	hears(t, l, unix.SIGUSR2)
	l.Ignoring(func() { ignores(t, "while a command is started", atFork) })
	ignores(t, "after a command's start", between)
	hears(t, l, unix.SIGINT)
}

func TestListener_deliversSIGCHLDToChildren(t *testing.T) {
	l := listen(t)
	if err := unix.Kill(os.Getpid(), unix.SIGCHLD); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Children:
	case sig := <-l.Signals:
		t.Errorf("Signals delivered %s", forward.Name(sig))
	case <-time.After(time.Minute):
		t.Error("Children delivered nothing")
	}
}

func TestIgnoreTTOU(t *testing.T) {
	l := listen(t)
	hears(t, l, unix.SIGTTOU)
	l.IgnoreTTOU()
	ignores(t, "while cleaning", map[syscall.Signal]bool{unix.SIGTTOU: true, unix.SIGTTIN: false})
}

// If each signal that means Pass or Stop is sent once before the first one is taken, each is delivered exactly once.
func TestListener_deliversEachSignalOnce(t *testing.T) {
	l := listen(t)
	want := map[syscall.Signal]bool{}
	for sig := syscall.Signal(1); sig <= forward.Last; sig++ {
		if m := forward.MeaningOf(sig); m == forward.Pass || m == forward.Stop {
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
				t.Errorf("%s was delivered twice, or should not be caught", forward.Name(sig))
			}
			delete(want, sig)
		case <-deadline:
			t.Fatalf("not delivered: %v", want)
		}
	}
}

// Of several pending signals SIGCONT is delivered last, whatever its number is.
func TestFirst_deliversSIGCONTLast(t *testing.T) {
	for _, c := range []struct {
		waiting []syscall.Signal
		want    syscall.Signal
	}{
		{nil, 0},
		{[]syscall.Signal{unix.SIGCONT}, unix.SIGCONT},
		{[]syscall.Signal{unix.SIGCONT, unix.SIGTTOU, unix.SIGTSTP}, unix.SIGTSTP},
		{[]syscall.Signal{unix.SIGCONT, forward.Last}, forward.Last},
		{[]syscall.Signal{1, forward.Last}, 1},
	} {
		var waiting set
		for _, sig := range c.waiting {
			waiting |= setOf(sig)
		}
		if got := waiting.first(); got != c.want {
			t.Errorf("of %v, %d comes first, want %d", c.waiting, got, c.want)
		}
	}
}

// Many signals arrive while no signal is taken, and while all threads run Go code or make system calls. A signal that
// is sent after them is still delivered.
func TestListener_stormOfSignals(t *testing.T) {
	l := listen(t)
	stop := make(chan struct{})
	defer close(stop)
	for range 4 {
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = make([]byte, 1<<10)
					_ = unix.Getppid()
				}
			}
		}()
	}
	for range 20 {
		for range 200 {
			for _, sig := range []syscall.Signal{unix.SIGUSR1, unix.SIGWINCH, unix.SIGCHLD, forward.Last} {
				if err := unix.Kill(os.Getpid(), sig); err != nil {
					t.Fatal(err)
				}
			}
		}
		hears(t, l, unix.SIGTERM)
	}
}
