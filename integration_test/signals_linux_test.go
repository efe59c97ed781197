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

// counts reads the file of a counting helper. It returns how often each signal has arrived.
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

// eachSizeOnce changes the size of a terminal several times. The target is a counting helper with that file, and must
// get one SIGWINCH for each change. At the end eachSizeOnce kills the target.
func (p *proc) eachSizeOnce(file string, resize func(rows uint16)) {
	p.t.Helper()
	const rounds = 20 // try often, because two signals for one change may be merged into one
	target := p.pidIn(file + ".pid")
	for n := range rounds {
		resize(uint16(30 + n))
		p.until("SIGWINCH", func() bool { return counts(p, file)[unix.SIGWINCH] > n })
		// Send SIGUSR1 and wait for it. It arrives after all signals for the change of the size.
		if err := unix.Kill(parentOf(p.t, target), unix.SIGUSR1); err != nil {
			p.t.Fatal(err)
		}
		p.until("SIGUSR1", func() bool { return counts(p, file)[unix.SIGUSR1] > n })
	}
	p.killAndWait(target)
	if got := counts(p, file)[unix.SIGWINCH]; got != rounds {
		p.t.Errorf("%d changes of the size, but the target got SIGWINCH %d times", rounds, got)
	}
}

// Each signal that graceful forwards arrives once at each process in the target's group. After a stop signal graceful
// also sends SIGCONT.
func TestForward_eachSignalOnce(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--grace", "1h", "--", "sh", "-c", "helper count worker & exec helper count leader")
	p.waitForFile("leader.pid")
	p.waitForFile("worker.pid")

	want := map[syscall.Signal]int{}
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		switch sig {
		case unix.SIGKILL, unix.SIGSTOP, 32, 33, 34,
			unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS, unix.SIGSTKFLT,
			unix.SIGPROF:
			continue // the kernel, the Go runtime or the C library needs these signals
		case unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG:
			p.signal(sig) // see TestForward_neverItsOwnSignals
			continue
		}
		want[sig]++
		switch sig {
		case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT:
			want[unix.SIGCONT]++ // so that a suspended process can act on the stop signal
		}
		p.signal(sig)
		arrived := func(sig syscall.Signal) {
			p.until("signal "+strconv.Itoa(int(sig)), func() bool {
				return counts(p, "leader")[sig] >= want[sig] && counts(p, "worker")[sig] >= want[sig]
			})
		}
		arrived(sig)
		arrived(unix.SIGCONT) // otherwise the next signal could merge with SIGCONT, or cancel SIGCONT
		switch sig {
		case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
			// The target catches the signal and keeps running. So graceful also keeps running.
			if got := processState(p.cmd.Process.Pid); got == "T" {
				t.Errorf("signal %d suspended graceful", sig)
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

// graceful does not forward SIGCHLD, SIGPIPE and SIGURG, which the kernel and the Go runtime send to graceful itself.
func TestForward_neverItsOwnSignals(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--", "sh", "-c", `
		for s in URG PIPE CHLD; do trap "echo $s >>got" $s; done
		trap 'trap - CHLD; kill $!; exit 0' USR1
		sleep 1000 & echo >ready
		while :; do wait; done`)
	p.waitForFile("ready")
	for range 20 {
		for _, sig := range []syscall.Signal{unix.SIGURG, unix.SIGPIPE, unix.SIGCHLD} {
			p.signal(sig)
		}
	}
	p.signal(unix.SIGUSR1)
	p.want("0")
	p.wantFile("got", "")
}

// Two different stop signals, each after a thousand other signals, reach the target once each. The cleanup command gets
// the first one as GRACEFUL_STOP_SIGNAL.
func TestStop_amongManySignals(t *testing.T) {
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
	p.wantFile("cleaned", "TERM\n")
}

// The target ends at a random moment. Signals arrive at random moments, some of them just when the target ends. Cleanup
// runs exactly once.
func TestCleanup_onceAmongManySignals(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	rain := []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGUSR1, unix.SIGCHLD, 40}
	for i := range 200 {
		life := time.Duration(rand.IntN(20)) * time.Millisecond
		p := start(t, "graceful", "run", "--grace", "5ms", "--on-exit", "echo >>cleaned 1", "--on-exit", "echo >>cleaned 2",
			"--", "sh", "-c", fmt.Sprintf("echo >started; trap : HUP USR1; sleep %v; exit 5", life.Seconds()))
		// Wait for the target, because an earlier signal could end graceful before it has started anything.
		p.waitForFile("started")
		until := time.Now().Add(life + time.Duration(rand.IntN(20))*time.Millisecond)
		for time.Now().Before(until) {
			_ = p.cmd.Process.Signal(rain[rand.IntN(len(rain))])
			if i%2 == 0 {
				time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
			}
		}
		status := p.wait()
		if status == "0" || strings.ToUpper(status) == status && status[0] >= 'A' {
			t.Fatalf("run %d: exit status %s: a signal ended graceful, or it claims success\n%s", i, status, p.text())
		}
		p.wantFile("cleaned", "2\n1\n")
	}
}

// The default grace is at least 10 s.
func TestGrace_default(t *testing.T) {
	t.Parallel()
	p := start(t, "graceful", "run", "--", "helper", "ignore", "TERM", "--", "pid")
	p.waitForFile("pid")
	before := time.Now()
	p.signal(unix.SIGTERM)
	p.want("137")
	if took := time.Since(before); took < 10*time.Second {
		t.Errorf("killed after %v, before the grace was over", took)
	}
}

// A signal arrives when graceful already catches signals, but before the process of the target has executed its
// program. The target gets the signal later. strace delays the execve(2) of the target.
func TestForward_signalBeforeTheTargetExists(t *testing.T) {
	need(t, "linux", "strace", "norace")
	t.Parallel()
	p := start(t, "strace", "-f", "-qq", "-o", "trace", "-e", "trace=execve", "-e", "inject=execve:delay_enter=300000",
		"graceful", "run", "--grace", "1h", "--on-exit", "echo >>cleaned $GRACEFUL_REASON $GRACEFUL_STOP_SIGNAL", "--",
		"sleep", "1000")
	pid := gracefulPID(p)
	p.until("child before its execve", func() bool {
		children := childrenOf(pid)
		return len(children) == 1 && comm(children[0]) == "graceful"
	})
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.want("143")
	p.wantFile("cleaned", "stopped TERM\n")
}
