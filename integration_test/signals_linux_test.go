package integration_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// counts reads the file of a counting helper: how often each signal has come.
func counts(p *proc, file string) map[syscall.Signal]int {
	data, _ := os.ReadFile(filepath.Join(p.dir, file))
	n := map[syscall.Signal]int{}
	for line := range strings.Lines(string(data)) {
		if sig, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
			n[syscall.Signal(sig)]++
		}
	}
	return n
}

// eachSizeOnce changes the size of a terminal some times. Each time has the target, which counts in a file, get one
// signal of it. Then it is killed.
func (p *proc) eachSizeOnce(file string, resize func(rows uint16)) {
	p.t.Helper()
	const rounds = 20 // two signals at a time may seem to be one
	target := p.pidIn(file + ".pid")
	for n := range rounds {
		resize(uint16(30 + n))
		p.until("SIGWINCH", func() bool { return counts(p, file)[unix.SIGWINCH] > n })
		// SIGUSR1 comes after all that is sent because of the size.
		if err := unix.Kill(parentOf(p.t, target), unix.SIGUSR1); err != nil {
			p.t.Fatal(err)
		}
		p.until("SIGUSR1", func() bool { return counts(p, file)[unix.SIGUSR1] > n })
	}
	p.killAndWait(target)
	if got := counts(p, file)[unix.SIGWINCH]; got != rounds {
		p.t.Errorf("%d changes of the size, and it got SIGWINCH %d times", rounds, got)
	}
}

func TestEverySignalReachesTheGroupExactlyOnce(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--grace", "1h", "--", "sh", "-c", "helper count worker & exec helper count leader")
	p.file("leader.pid")
	p.file("worker.pid")

	want := map[syscall.Signal]int{}
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		switch sig {
		case unix.SIGKILL, unix.SIGSTOP, 32, 33, 34,
			unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS, unix.SIGSTKFLT,
			unix.SIGPROF:
			continue // the kernel or the Go runtime keeps them from us
		case unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG:
			p.signal(sig) // ours: see the test below
			continue
		}
		want[sig]++
		switch sig {
		case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT:
			want[unix.SIGCONT]++ // so that a stopped process can act on it
		}
		p.signal(sig)
		arrived := func(sig syscall.Signal) {
			p.until("signal "+strconv.Itoa(int(sig)), func() bool {
				return counts(p, "leader")[sig] >= want[sig] && counts(p, "worker")[sig] >= want[sig]
			})
		}
		arrived(sig)
		arrived(unix.SIGCONT) // the next one would make one with it, or a stop signal undo it
		switch sig {
		case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
			// The target catches it and runs on. So do we.
			if got := state(p.cmd.Process.Pid); got == "T" {
				t.Errorf("signal %d has suspended us", sig)
			}
		}
	}
	for _, file := range []string{"leader", "worker"} {
		got := counts(p, file)
		for sig := syscall.Signal(1); sig <= 64; sig++ {
			if got[sig] != want[sig] {
				t.Errorf("%s got signal %d %d times, want %d", file, sig, got[sig], want[sig])
			}
		}
	}
	for _, file := range []string{"leader.pid", "worker.pid"} {
		_ = unix.Kill(p.pidIn(file), unix.SIGKILL)
	}
	p.want("137")
}

// state is the state letter of a process (proc(5)).
func state(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	letter, _, _ := strings.Cut(rest, " ")
	return letter
}

func TestOurOwnSignalsAreNeverForwarded(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--", "sh", "-c", `
		for s in URG PIPE CHLD; do trap "echo $s >>got" $s; done
		trap 'trap - CHLD; kill $!; exit 0' USR1
		sleep 1000 & echo >ready
		while :; do wait; done`)
	p.file("ready")
	for range 20 {
		for _, sig := range []syscall.Signal{unix.SIGURG, unix.SIGPIPE, unix.SIGCHLD} {
			p.signal(sig)
		}
	}
	p.signal(unix.SIGUSR1)
	p.want("0")
	p.wrote("got", "")
}

func TestARainOfSignalsLosesNoStopSignal(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--grace", "1h", "--on-exit", "echo >>cleaned $GRACEFUL_STOP_SIGNAL", "--", "helper",
		"count", "got")
	target := p.pidIn("got.pid")
	rain := []syscall.Signal{unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGWINCH, unix.SIGURG,
		unix.SIGPIPE, unix.SIGCHLD, unix.SIGIO, 35, 50, 64}
	for range 1000 {
		p.signal(rain[rand.IntN(len(rain))])
	}
	p.signal(unix.SIGTERM)
	p.until("SIGTERM", func() bool { return counts(p, "got")[unix.SIGTERM] == 1 })
	for range 1000 {
		p.signal(rain[rand.IntN(len(rain))])
	}
	p.signal(unix.SIGINT)
	p.until("SIGINT", func() bool { return counts(p, "got")[unix.SIGINT] == 1 })
	_ = unix.Kill(target, unix.SIGKILL)
	p.want("137")
	p.wrote("cleaned", "TERM\n")
}

// The target ends at a random moment, signals come at others, and some at the very moment of its end.
func TestCleanupRunsExactlyOnceWhateverRains(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	rain := []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGUSR1, unix.SIGCHLD, 40}
	for i := range 200 {
		life := time.Duration(rand.IntN(20)) * time.Millisecond
		p := start(t, "graceful", "run", "--grace", "5ms", "--on-exit", "echo >>cleaned 1", "--on-exit", "echo >>cleaned 2",
			"--", "sh", "-c", fmt.Sprintf("echo >started; trap : HUP USR1; sleep %v; exit 5", life.Seconds()))
		// Before it has begun, a signal ends a program that nothing has prepared: nothing was started then.
		p.file("started")
		until := time.Now().Add(life + time.Duration(rand.IntN(20))*time.Millisecond)
		for time.Now().Before(until) {
			_ = p.cmd.Process.Signal(rain[rand.IntN(len(rain))])
			if i%2 == 0 {
				time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
			}
		}
		status := p.wait()
		if status == "0" || strings.ToUpper(status) == status && status[0] >= 'A' {
			t.Fatalf("run %d: exit status %s: we were ended ourselves, or claim success\n%s", i, status, p.text())
		}
		p.wrote("cleaned", "2\n1\n")
	}
}

func TestTheGraceIsTenSecondsAndNotLess(t *testing.T) {
	t.Parallel()
	p := start(t, "graceful", "run", "--", "helper", "ignore", "TERM", "--", "pid")
	p.file("pid")
	before := time.Now()
	p.signal(unix.SIGTERM)
	p.want("137")
	if took := time.Since(before); took < 10*time.Second {
		t.Errorf("killed after %v, before the grace was over", took)
	}
}

// A signal that comes when we listen already and the target is not there yet waits for it. strace holds the target
// up at its execve.
func TestASignalBeforeTheTargetIsThereIsNotLost(t *testing.T) {
	need(t, "linux", "strace", "norace")
	t.Parallel()
	p := start(t, "strace", "-f", "-qq", "-o", "trace", "-e", "trace=execve", "-e", "inject=execve:delay_enter=300000",
		"graceful", "run", "--grace", "1h", "--on-exit", "echo >>cleaned $GRACEFUL_REASON $GRACEFUL_STOP_SIGNAL", "--",
		"sleep", "1000")
	pid := gracefulPID(p)
	p.until("target that is not there yet", func() bool {
		children := childrenOf(pid)
		return len(children) == 1 && comm(children[0]) == "graceful"
	})
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.want("143")
	p.wrote("cleaned", "stopped TERM\n")
}

// A stop that is undone at once leaves neither of us stopped, whichever of the two signals is taken first.
func TestAStopThatIsUndoneAtOnce(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for range 20 {
		p := start(t, "graceful", "run", "--", "helper", "count", "got")
		target := p.pidIn("got.pid")
		p.signal(unix.SIGTSTP)
		p.signal(unix.SIGCONT)
		p.until("SIGCONT", func() bool { return counts(p, "got")[unix.SIGCONT] > 0 })
		time.Sleep(200 * time.Millisecond) // for a stop that shall not come
		if s := state(p.cmd.Process.Pid); s == "T" {
			t.Fatal("we are stopped")
		}
		_ = unix.Kill(target, unix.SIGKILL)
		p.want("137")
	}
}
