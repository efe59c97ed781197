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

// The run ends, as by SIGTERM, whenever the process that started us is killed. A parent with a session of its own need
// not be named; in the other runs the new parent is in the session of the old one, as with a subreaper.
func TestTheRunEndsAtWhicheverSystemCallOurParentIsKilled(t *testing.T) {
	need(t, "linux", "norace", "setsid")
	step := stride(t, "GRACEFUL_TEST_KILL_STRIDE", 3)
	tells := []string{"--on-exit", "echo $GRACEFUL_HOOK_ID $GRACEFUL_REASON $GRACEFUL_STOP_SIGNAL >>log"}
	tells = slices.Concat(tells, tells)
	// Nothing but the death of the parent ends this one.
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
			if !c.guard { // before our first step
				if got, err := c.s.run(t, order{At: 1}); err != nil || got.Born > 0 || got.Status != "143" {
					t.Errorf("killed before we began: status %s, %d processes born, %v", got.Status, got.Born, err)
				}
			}
			points, runs := killEverywhere(t, c.s, c.guard, 1+rand.IntN(step), step)
			t.Logf("%d points, killed at %d", points, runs)
		})
	}
}

// dying starts a shell that starts graceful, with its own death as a reason to stop, and does something else when the
// target is ready.
func dying(t *testing.T, around, flags, target, then string) *proc {
	t.Helper()
	return start(t, "sh", "-c", fmt.Sprintf(
		`%s graceful run --grace 1h --die-with-parent=$$ \
			--on-exit 'echo $GRACEFUL_STOP_SIGNAL $GRACEFUL_EXIT_CODE >>log' %s -- %s &
		echo $! >pid; until [ -e ready ]; do sleep 0.01; done; %s`, around, flags, target, then))
}

// outlived waits for the end of a shell by SIGKILL, and of the run that it started, and requires what the run's cleanup
// command wrote.
func (p *proc) outlived(log string) {
	p.t.Helper()
	p.want("KILL")
	pid := p.pidIn("pid")
	p.until("end of graceful", func() bool { return !alive(pid) })
	p.wrote("log", log)
}

const sleeps = `sh -c 'echo $$ >ready; exec sleep 1000'`

// A parent that tells us to stop and goes away means one stop.
func TestAParentThatStopsUsAndDiesIsNoRepeat(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		for range 10 {
			p := dying(t, "", "--on-repeat kill --guard "+guard,
				`sh -c 'trap "sleep 0.3; exit 3" TERM; echo >ready; while :; do sleep 0.02; done'`, "kill $!; kill -KILL $$")
			p.outlived("TERM 3\n")
		}
	}
}

// Where the kernel does not tell of the end of a process, we find it out.
func TestTheDeathOfTheParentIsFoundOutWithoutPidfd(t *testing.T) {
	need(t, "linux", "strace", "norace")
	t.Parallel()
	for _, guard := range []string{"on", "off"} {
		p := dying(t, "strace -D -f -qq -o trace -e trace=pidfd_open -e inject=pidfd_open:error=ENOSYS", "--guard "+guard,
			sleeps, "kill -KILL $$")
		p.outlived("TERM 143\n")
		if trace := p.file("trace"); !strings.Contains(trace, "ENOSYS") {
			t.Errorf("nothing was withheld: %s", trace)
		}
	}
}

// The one process of graceful that is left stops the run for whichever reason, and once.
func TestTheParentAndTheGuardAreKilledTogether(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for range 10 {
		p := dying(t, "", "--guard on --on-repeat kill",
			`sh -c 'trap "sleep 0.3; exit 3" TERM; echo >ready; while :; do sleep 0.02; done'`, "exec sleep 1000")
		p.file("ready")
		leader := p.pidIn("pid")
		kill(t, p.cmd.Process.Pid, guardOf(leader))
		p.outlived("TERM 3\n")
	}
}

// The death of a thread is not that of the parent, not even the thread's that started us, or the first one's.
func TestTheEndOfAThreadOfTheParentIsNoReasonToStop(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, first := range []string{"first", "other"} {
		p := start(t, "helper", "lose-thread", first, "graceful", "run", "--die-with-parent", "--grace", "1h",
			"--on-exit", "echo $GRACEFUL_STOP_SIGNAL >>log", "--", "sh", "-c", "echo $$ >ready; exec sleep 1000")
		p.file("ready")
		p.file("lost")
		graceful := childrenOf(p.cmd.Process.Pid)
		time.Sleep(500 * time.Millisecond) // for a stop that shall not come
		if target := p.pidIn("ready"); !alive(target) {
			t.Fatalf("the %s thread's end has stopped the run: %s", first, p.text())
		}
		p.signal(unix.SIGKILL)
		p.want("KILL")
		p.until("end of graceful", func() bool { return !slices.ContainsFunc(graceful, alive) })
		p.wrote("log", "TERM\n")
	}
}

// Nobody outlives the end of the first process of a namespace, and the parent of the first one is outside.
func TestTheParentThatCannotBeOutlivedOrSeen(t *testing.T) {
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

// While what an earlier run has left is being finished, the death of the parent is a stop, too: the run does not begin.
func TestTheParentDiesBeforeTheRunHasItsName(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	earlier, _ := killedIn(t, "target", "ready", "--on-exit", "echo >>cleaned; sleep 0.5; echo >>cleaned", "--",
		"sh", "-c", "echo >ready; exec sleep 1000")
	p := start(t, "sh", "-c", fmt.Sprintf(`
		graceful run --state-dir %s --name x --die-with-parent=$$ --on-exit 'echo >>log' -- sh -c 'echo >>log' &
		echo $! >pid; until [ -e %s/cleaned ]; do sleep 0.01; done; kill -KILL $$`, stateOf(earlier), earlier.dir))
	p.outlived("")
	earlier.wrote("cleaned", "\n\n")
}
