package integration_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// If graceful is killed, a new graceful ends the tree with its daemons. If the guard is killed, the run continues. In
// both cases cleanup runs once.
func TestTakeover_eitherProcessKilled(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, victim := range []string{"graceful", "guard"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			p := start(t, "graceful", "run", "--on-exit", "echo 1 $GRACEFUL_REASON $GRACEFUL_EXIT_CODE >>cleaned",
				"--on-exit", "echo 2 >>cleaned", "--", "sh", "-c", "helper daemon daemon; echo $$ >target; exec sleep 1000")
			guard := p.guard()
			target, daemon := p.pidIn("target"), p.pidIn("daemon")
			if victim == "graceful" {
				kill(t, p.cmd.Process.Pid)
				p.want("KILL")
			} else {
				p.loseGuard()
				p.signal(unix.SIGTERM)
				p.want("143")
			}
			p.untilReaped(target, daemon)
			p.until("cleanup", func() bool { return strings.Count(p.waitForFile("cleaned"), "\n") == 2 })
			p.wantFile("cleaned", "2\n1 "+map[string]string{"graceful": "orphaned", "guard": "stopped"}[victim]+" 143\n")
			p.until("end of the guard", func() bool { return !alive(guard) })
		})
	}
}

// Even with --contain group, the target is reparented to graceful after the guard was killed. So graceful gets the
// target's exit status, and exits with it.
func TestContainGroup_guardKilled(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--contain", "group", "--on-exit", "echo $GRACEFUL_EXIT_CODE >>cleaned", "--", "sh",
		"-c", "echo $$ >target; trap 'exit 7' TERM; while :; do sleep 0.01; done")
	target := p.pidIn("target")
	p.loseGuard()
	p.signal(unix.SIGTERM)
	p.want("7")
	p.untilReaped(target)
	p.wantFile("cleaned", "7\n")
}

// If a suspended graceful is killed, no process of the run stays suspended: the target ends, and cleanup runs.
func TestTakeover_ofASuspendedRun(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--on-exit", "echo 1 >>cleaned", "--", "sh", "-c",
		// The shell replaces itself by sleep (exec). If the shell started sleep as a child, it could wait for the
		// suspended child (vfork(2)), and would then not be suspended itself.
		"echo $$ >target; exec sleep 1000")
	target := p.pidIn("target")
	p.signal(unix.SIGTSTP)
	p.until("suspension of both", func() bool {
		return processState(p.cmd.Process.Pid) == "T" && processState(target) == "T"
	})
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	p.untilReaped(target)
	p.waitForFile("cleaned")
}

// With --guard auto, graceful has a guard unless it is PID 1. With on it always has one, with off never. The test
// counts the processes of graceful.
func TestGuard_existsByFlagAndPID1(t *testing.T) {
	need(t, "linux", "pidns")
	t.Parallel()
	for _, c := range []struct {
		asPID1 bool
		guard  string
		want   string
	}{{true, "auto", "1"}, {true, "on", "2"}, {true, "off", "1"}, {false, "auto", "2"}, {false, "on", "2"},
		{false, "off", "1"}} {
		p := inNamespace(t, c.asPID1, "graceful", "run", "--guard", c.guard, "--", "sh", "-c",
			"grep -c . /proc/[0-9]*/comm >/dev/null; "+
				`grep -lx graceful /proc/[0-9]*/comm | wc -l >n`).start()
		p.want("0")
		p.wantFile("n", c.want+"\n")
	}
}

// graceful may be killed again and again, while the target stops and while a command runs. The guard starts a new
// graceful each time, and each command runs once.
func TestTakeover_gracefulKilledRepeatedly(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--grace", "1h", "--on-exit", "echo 1 >>cleaned", "--on-exit",
		"echo >cleaning; until [ -e end ]; do sleep 0.01; done; echo 2 >>cleaned", "--", "sh", "-c",
		"trap '' TERM; echo $$ >target; until [ -e go ]; do sleep 0.01; done")
	target, guard := p.pidIn("target"), p.guard()
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	for range 5 { // while the target is stopping
		p.killAndWait(p.successor(guard))
	}
	p.touch("go")
	p.waitForFile("cleaning")
	for range 5 { // while a command runs
		p.killAndWait(p.successor(guard))
	}
	p.touch("end")
	p.until("end of the guard", func() bool { return !alive(guard) })
	p.wantFile("cleaned", "2\n1\n")
	if alive(target) {
		t.Error("the target is left")
	}
}

// The guard is killed after a takeover. The new graceful is then not an ancestor of the tree, but still ends the whole
// tree, and cleanup runs once.
func TestTakeover_thenTheGuardIsKilled(t *testing.T) {
	need(t, "linux", "setsid")
	t.Parallel()
	for _, moment := range []string{"stopping", "cleaning"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			p := start(t, "graceful", "run", "--grace", "300ms", "--on-exit", "echo 1 >>cleaned", "--on-exit",
				"echo >cleaning; until [ -e end ]; do sleep 0.01; done; echo 2 >>cleaned", "--", "sh", "-c",
				`trap 'echo >stopping' TERM; setsid sleep 1000 & echo $! >daemon; echo $$ >target
				while :; do sleep 0.01; done`)
			target, daemon, guard := p.pidIn("target"), p.pidIn("daemon"), p.guard()
			kill(t, p.cmd.Process.Pid)
			p.want("KILL")
			last := p.successor(guard)
			p.waitForFile(moment)
			kill(t, guard)
			if moment == "cleaning" {
				p.touch("end")
			} else {
				p.waitForFile("cleaning")
				p.touch("end")
			}
			p.until("end of graceful", func() bool { return !alive(last) })
			p.wantFile("cleaned", "2\n1\n")
			for _, pid := range []int{target, daemon} {
				if alive(pid) {
					t.Errorf("process %d is left", pid)
				}
			}
		})
	}
}
