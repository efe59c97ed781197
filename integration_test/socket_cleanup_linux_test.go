package integration_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The next run removes the socket of a run whose graceful and guard were both killed, and keeps the socket of a live
// run. A graceful that takes over a run removes the socket of that run.
func TestSocket_ofAKilledRun(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	place := t.TempDir()
	run := func(args ...string) *proc {
		p := command(t, append([]string{"graceful", "run"}, args...)...)
		p.cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+place)
		return p.start()
	}
	sockets := func() []string {
		found, _ := filepath.Glob(place + "/graceful-*")
		return found
	}
	const target = "echo $$ >target; exec sleep 1000"
	living, taken, dead := run("sh", "-c", target), run("sh", "-c", target), run("sh", "-c", target)
	for _, p := range []*proc{living, taken, dead} {
		p.pidIn("target")
	}
	kill(t, dead.guard(), dead.cmd.Process.Pid)
	dead.want("KILL")
	kill(t, taken.cmd.Process.Pid) // the guard starts a new graceful, which finishes the run
	taken.untilReaped(taken.pidIn("target"))
	taken.until("the end of the run", func() bool { return len(sockets()) == 2 })
	run("true").want("0")
	if left := sockets(); len(left) != 1 {
		t.Errorf("the sockets are %q", left)
	}
	kill(t, dead.pidIn("target"))
	living.signal(unix.SIGTERM)
	living.want("143")
	if left := sockets(); len(left) != 0 {
		t.Errorf("the sockets are %q", left)
	}
}

// graceful is killed, and a new graceful takes over. Then the guard is killed. The next run keeps the socket of the
// first run, which the new graceful removes at the end.
func TestSocket_ofASecondGraceful(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	place := t.TempDir()
	env := append(os.Environ(), "XDG_RUNTIME_DIR="+place)
	p := command(t, "graceful", "run", "--grace", "1m", "--", "sh", "-c",
		"trap 'echo >stopping' TERM; echo $$ >target; until [ -e end ]; do sleep 0.01; done")
	p.cmd.Env = env
	p.start()
	target, guard := p.pidIn("target"), p.guard()
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	last := p.successor(guard)
	p.waitForFile("stopping")
	kill(t, guard)
	p.until("end of the guard", func() bool { return !alive(guard) })
	next := command(t, "graceful", "run", "true")
	next.cmd.Env = env
	next.start().want("0")
	if left, _ := filepath.Glob(place + "/graceful-*/socket"); len(left) != 1 {
		t.Errorf("the sockets are %q", left)
	}
	p.touch("end")
	p.until("end of graceful", func() bool { return !alive(last) })
	p.untilReaped(target)
	if left, _ := filepath.Glob(place + "/graceful-*"); len(left) != 0 {
		t.Errorf("the sockets are %q", left)
	}
}
