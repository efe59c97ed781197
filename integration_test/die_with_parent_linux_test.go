//go:build amd64 || arm64

package integration_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The process that started graceful is killed at system calls of graceful or of the guard, by default at every third
// stop of the tracer. Then the run ends as after SIGTERM, unless the target ends by itself first. If the parent has a
// session of its own, --die-with-parent need not name the parent: graceful sees that its new parent is in another
// session. In the other cases, the new parent is in the session of the killed parent, and the value of
// --die-with-parent is the pid of the killed parent.
func TestEverySystemCall_parentKilled(t *testing.T) {
	need(t, "linux", "norace", "setsid")
	step := stride(t, "GRACEFUL_TEST_KILL_STRIDE", 3)
	tells := []string{"--on-exit", "echo $GRACEFUL_HOOK_ID $GRACEFUL_REASON $GRACEFUL_STOP_SIGNAL >>log"}
	tells = slices.Concat(tells, tells)
	// Only the death of the parent ends this run.
	endless := scenario{
		flags: tells, target: started + "echo >ready; exec sleep 1000", stop: true,
		log: "2 stopped TERM\n1 stopped TERM\n", status: "143", parent: "$$",
	}
	unguarded, unnamed, quiet := endless, endless, scenarios["quiet"]
	unguarded.flags = slices.Concat(tells, []string{"--guard", "off"})
	unnamed.parent, quiet.parent = "true", "$$"
	for _, c := range []struct {
		name  string
		s     scenario
		guard bool
	}{
		{"graceful", endless, false}, {"guard", endless, true}, {"without a guard", unguarded, false},
		{"unnamed parent", unnamed, false}, {"a target that ends itself", quiet, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if !c.guard { // kill the parent at graceful's first stop, before the run begins
				if got, err := c.s.run(t, order{At: 1}); err != nil || got.Born > 0 || got.Status != "143" {
					t.Errorf("killed before the beginning: status %s, %d processes born, %v", got.Status, got.Born, err)
				}
			}
			points, runs := killEverywhere(t, c.s, c.guard, 1+rand.IntN(step), step)
			t.Logf("%d stops, killed at %d of them", points, runs)
		})
	}
}

// startWithParent starts a shell that starts graceful with --die-with-parent, flags and a target. The words in around
// come before graceful. The shell writes graceful's pid to the file pid. then is the script that the shell runs when
// the target has created the file ready.
func startWithParent(t *testing.T, around, flags, target, then string) *proc {
	t.Helper()
	return start(t, "sh", "-c", fmt.Sprintf(
		`%s graceful run --grace 1h --die-with-parent=$$ \
			--on-exit 'echo $GRACEFUL_STOP_SIGNAL $GRACEFUL_EXIT_CODE >>log' %s -- %s &
		echo $! >pid; until [ -e ready ]; do sleep 0.01; done; %s`, around, flags, target, then))
}

// wantEndAfterParent waits until the shell of startWithParent and then graceful have ended. It fails the test unless
// SIGKILL has ended the shell, and the cleanup command has written log to the file log.
func (p *proc) wantEndAfterParent(log string) {
	p.t.Helper()
	p.want("KILL")
	pid := p.pidIn("pid")
	p.until("end of graceful", func() bool { return !alive(pid) })
	p.wantFile("log", log)
}

const sleepingTarget = `sh -c 'echo $$ >ready; exec sleep 1000'`

// A parent that sends a stop signal and dies causes one stop. Because of --on-repeat kill, a second stop would kill the
// target before it ends by itself with status 3.
func TestDieWithParent_parentStopsAndDies(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		for range 10 {
			p := startWithParent(t, "", "--on-repeat kill --guard "+guard,
				`sh -c 'trap "sleep 0.3; exit 3" TERM; echo >ready; while :; do sleep 0.02; done'`, "kill $!; kill -KILL $$")
			p.wantEndAfterParent("TERM 3\n")
		}
	}
}

// Without pidfd_open(2), graceful detects the end of the parent by polling.
func TestDieWithParent_withoutPidfd(t *testing.T) {
	need(t, "linux", "strace", "norace")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		p := startWithParent(t, "strace -D -f -qq -o trace -e trace=pidfd_open -e inject=pidfd_open:error=ENOSYS",
			"--guard "+guard, sleepingTarget, "kill -KILL $$")
		p.wantEndAfterParent("TERM 143\n")
		if trace := p.waitForFile("trace"); !strings.Contains(trace, "ENOSYS") {
			t.Errorf("pidfd_open did not fail: %s", trace)
		}
	}
}

// The parent and the guard are killed together. The remaining process of graceful stops the run once. Because of
// --on-repeat kill, a second stop would kill the target before it ends by itself with status 3.
func TestDieWithParent_guardIsKilled(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for range 10 {
		p := startWithParent(t, "", "--guard on --on-repeat kill",
			`sh -c 'trap "sleep 0.3; exit 3" TERM; echo >ready; while :; do sleep 0.02; done'`, "exec sleep 1000")
		p.waitForFile("ready")
		leader := p.pidIn("pid")
		kill(t, p.cmd.Process.Pid, guardOf(leader))
		p.wantEndAfterParent("TERM 3\n")
	}
}

// The end of the thread that started graceful does not stop the run, whether that thread is the first of its process or
// another one. The end of the process does.
func TestDieWithParent_threadEnds(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, first := range []string{"first", "other"} {
		p := start(t, "helper", "lose-thread", first, "graceful", "run", "--die-with-parent", "--grace", "1h",
			"--on-exit", "echo $GRACEFUL_STOP_SIGNAL >>log", "--", "sh", "-c", "echo $$ >ready; exec sleep 1000")
		p.waitForFile("ready")
		p.waitForFile("lost")
		graceful := childrenOf(p.cmd.Process.Pid)
		time.Sleep(500 * time.Millisecond) // time for a stop that must not come
		if target := p.pidIn("ready"); !alive(target) {
			t.Fatalf("the end of the %s thread stopped the run: %s", first, p.text())
		}
		p.signal(unix.SIGKILL)
		p.want("KILL")
		p.until("end of graceful", func() bool { return !slices.ContainsFunc(graceful, alive) })
		p.wantFile("log", "TERM\n")
	}
}

// graceful cannot see a parent outside of its PID namespace, and refuses. If the parent is PID 1, graceful behaves as
// if the parent had ended. In both cases it says why, and does not start the target.
func TestDieWithParent_PIDNamespace(t *testing.T) {
	need(t, "linux", "pidns")
	t.Parallel()
	for _, c := range []struct{ script, status, says string }{
		{"exec graceful run --die-with-parent -- echo started", "125", "cannot be seen from this PID namespace"},
		{"exec graceful run --die-with-parent=77 -- echo started", "125", "cannot be seen from this PID namespace"},
		{"graceful run --die-with-parent -- echo started; exit", "143", "it is PID 1, which no process outlives"},
		{"graceful run --die-with-parent=$$ -- echo started; exit", "143", "it is PID 1, which no process outlives"},
	} {
		p := start(t, append([]string{"unshare"}, pidNamespace("sh", "-c", c.script)...)...)
		p.want(c.status)
		if text := p.text(); strings.Contains(text, "started\n") || !strings.Contains(text, c.says) {
			t.Errorf("%s: %s", c.script, text)
		}
	}
}

// The parent dies while graceful finishes an earlier run of the name. The end of the parent stops the new run before it
// begins: neither the target nor a cleanup command of the new run starts.
func TestDieWithParent_beforeTheRunBegins(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	earlier, _ := startAndKill(t, "target", "ready", "--on-exit", "echo >>cleaned; sleep 0.5; echo >>cleaned", "--",
		"sh", "-c", "echo >ready; exec sleep 1000")
	p := start(t, "sh", "-c", fmt.Sprintf(`
		graceful run --state-dir %s --name x --die-with-parent=$$ --on-exit 'echo >>log' -- sh -c 'echo >>log' &
		echo $! >pid; until [ -e %s/cleaned ]; do sleep 0.01; done; kill -KILL $$`, stateOf(earlier), earlier.dir))
	p.wantEndAfterParent("")
	earlier.wantFile("cleaned", "\n\n")
}
