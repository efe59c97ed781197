package integration_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A target that suspends the guard again and again cannot prevent the time limit, the kill after the grace, or the
// cleanup commands.
func TestGuard_suspendedAgainAndAgain(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--timeout", "500ms", "--grace", "100ms", "--on-exit", "echo 1 >>cleaned", "--", "sh",
		"-c", "trap '' TERM; while :; do kill -STOP $PPID; done")
	p.want("137")
	p.wantFile("cleaned", "1\n")
}

// A target or a cleanup command that suspends the guard after a takeover cannot delay the run. graceful continues the
// guard, although the kernel does not report that a parent is suspended.
func TestGuard_suspendedAfterATakeover(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--grace", "1h", "--on-exit-timeout", "1h", "--on-exit", "echo 2 >>cleaned",
		"--on-exit", "kill -STOP $PPID; echo 1 >>cleaned", "--", "sh", "-c",
		"trap 'kill -STOP $PPID; exit 7' TERM; echo $$ >target; while :; do sleep 0.01; done")
	target, guard := p.pidIn("target"), p.guard()
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	p.until("end of the guard", func() bool { return !alive(guard) })
	p.untilReaped(target)
	p.wantFile("cleaned", "1\n2\n")
}

// The guard is suspended, and the graceful that the guard has started is killed. recover continues the guard, which
// starts another graceful to finish the run.
func TestGuard_suspendedAndAlone(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := command(t, "graceful", "run", "--grace", "1m", "--on-exit", "echo 1 >>cleaned", "--state-dir", "state", "--",
		"sh", "-c", "trap 'echo >stopping' TERM; echo $$ >target; until [ -e end ]; do sleep 0.01; done")
	p.start()
	target, guard := p.pidIn("target"), p.guard()
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	last := p.successor(guard)
	p.waitForFile("stopping")
	for _, pid := range []int{last, guard} { // suspend graceful first, since it would continue the guard
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		p.until("suspension", func() bool { return processState(pid) == "T" })
	}
	kill(t, last)
	recoverIn(t, filepath.Join(p.dir, "state"), "0")
	p.until("continuation of the guard", func() bool { return processState(guard) != "T" })
	p.touch("end")
	p.until("end of the guard", func() bool { return !alive(guard) })
	p.untilReaped(target)
	p.wantFile("cleaned", "1\n")
}

// A frozen guard cannot run, even after SIGCONT. graceful kills the guard, and ends the run without it.
func TestGuard_frozen(t *testing.T) {
	t.Parallel()
	cgroup := ownCgroup(t)
	p := start(t, "graceful", "run", "--deadline", "3s", "--on-exit-timeout", "1s", "--on-exit", "echo 1 >>cleaned",
		"--", "sh", "-c",
		`echo $PPID >"$0"/cgroup.procs; echo 1 >"$0"/cgroup.freeze; echo $$ >target; exec sleep 1000`, cgroup)
	target, guard := p.pidIn("target"), p.guard()
	p.signal(unix.SIGTERM)
	p.want("137") // only the guard could report how the target ended, so graceful assumes SIGKILL
	p.untilReaped(target, guard)
	p.wantFile("cleaned", "1\n")
}

// graceful continues a suspended guard. A signal to the guard has the same effect as a signal to graceful.
func TestGuard_suspendedAndSignalled(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--on-exit", "echo 1 >>cleaned", "--", "helper", "count", "got")
	p.pidIn("got.pid")
	guard := p.guard()
	for range 3 {
		if err := unix.Kill(guard, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		p.until("continuation of the guard", func() bool { return processState(guard) == "S" })
	}
	for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGHUP, unix.SIGTERM, 40} {
		if err := unix.Kill(guard, sig); err != nil {
			t.Fatal(err)
		}
		p.until(fmt.Sprint(sig, " to the target"), func() bool { return counts(p, "got")[sig] == 1 })
	}
	kill(t, p.pidIn("got.pid"))
	p.want("137")
	p.wantFile("cleaned", "1\n")
}

// While graceful is suspended, the guard reaps 10,000 orphans. It does not reap the target, which has ended before
// them, so that graceful gets the target's exit status later.
func TestGuard_reapsOrphansWhileGracefulIsSuspended(t *testing.T) {
	need(t, "linux", "setsid")
	t.Parallel()
	p := start(t, "graceful", "run", "--on-exit", "echo >>cleaned $GRACEFUL_EXIT_CODE", "--", "sh", "-c",
		"setsid sh -c 'until [ -e go ]; do sleep 0.01; done; for i in 1 2 3 4 5 6 7 8 9 10; do helper orphans 1000; done; "+
			"echo >done' & echo $$ >target; exec sleep 1000")
	target, guard := p.pidIn("target"), p.guard()
	p.signal(unix.SIGSTOP)
	p.until("suspension of graceful", func() bool { return processState(p.cmd.Process.Pid) == "T" })
	kill(t, target)
	p.until("end of the target", func() bool { return processState(target) == "Z" })
	p.touch("go")
	p.waitForFile("done")
	p.until("reaping of all orphans", func() bool {
		children := childrenOf(guard)
		return len(children) == 1 && children[0] == target
	})
	p.signal(unix.SIGCONT)
	p.want("137")
	p.wantFile("cleaned", "137\n")
}

// The guard is killed while graceful is suspended. After SIGCONT and SIGTERM, the run ends as usual.
func TestGuard_killedWhileGracefulIsSuspended(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--on-exit", "echo >>cleaned $GRACEFUL_REASON", "--", "sh", "-c",
		"echo $$ >target; exec sleep 1000")
	target, guard := p.pidIn("target"), p.guard()
	p.signal(unix.SIGSTOP)
	p.until("suspension of graceful", func() bool { return processState(p.cmd.Process.Pid) == "T" })
	kill(t, guard)
	p.until("end of the guard", func() bool { return processState(guard) == "Z" })
	if !alive(target) {
		t.Error("the target has ended")
	}
	p.signal(unix.SIGCONT)
	p.signal(unix.SIGTERM)
	p.want("143")
	p.untilReaped(guard, target)
	p.wantFile("cleaned", "stopped\n")
}
