package integration_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// supervisor waits for the supervisor of a run that has a guard.
func (p *proc) supervisor() int {
	p.t.Helper()
	var pid int
	p.until("supervisor", func() bool {
		pid = supervisorOf(p.cmd.Process.Pid)
		return pid != p.cmd.Process.Pid
	})
	return pid
}

func kill(t testing.TB, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			t.Fatal(err)
		}
	}
}

// gone waits until nothing is left of a process, not even a zombie.
func (p *proc) gone(pids ...int) {
	p.t.Helper()
	for _, pid := range pids {
		p.until(fmt.Sprintf("end of process %d (%s)", pid, comm(pid)), func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
	}
}

// killAndWait is for a process whose parent may be slow to reap it.
func (p *proc) killAndWait(pid int) {
	p.t.Helper()
	kill(p.t, pid)
	p.until(fmt.Sprintf("end of process %d", pid), func() bool { return !alive(pid) })
}

// Whichever of our two processes is killed, the other one ends the tree, daemons too, and cleans up once.
func TestEitherOfOurProcessesFinishesTheRun(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, c := range []struct{ victim, status string }{{"front", "KILL"}, {"supervisor", "143"}} {
		t.Run(c.victim, func(t *testing.T) {
			t.Parallel()
			p := start(t, "graceful", "run", "--on-exit", "echo 1 $GRACEFUL_REASON $GRACEFUL_EXIT_CODE >>cleaned",
				"--on-exit", "echo 2 >>cleaned", "--", "sh", "-c", "helper daemon daemon; echo $$ >target; exec sleep 1000")
			front, supervisor := p.cmd.Process.Pid, p.supervisor()
			target, daemon := p.pidIn("target"), p.pidIn("daemon")
			if c.victim == "front" {
				kill(t, front)
			} else {
				kill(t, supervisor)
			}
			p.want(c.status)
			p.gone(target, daemon)
			p.until("cleanup", func() bool { return strings.Count(p.file("cleaned"), "\n") == 2 })
			p.wrote("cleaned", "2\n1 orphaned 143\n")
			if c.victim == "supervisor" {
				p.gone(supervisor)
			}
		})
	}
}

// At every level of containment the front inherits the target, and sees how it ends.
func TestAtTheGroupLevelTheFrontFinishesTheRunToo(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--contain", "group", "--on-exit", "echo $GRACEFUL_EXIT_CODE >>cleaned", "--", "sh",
		"-c", "echo $$ >target; trap 'exit 7' TERM; while :; do sleep 0.01; done")
	target := p.pidIn("target")
	kill(t, p.supervisor())
	p.want("7")
	p.gone(target)
	p.wrote("cleaned", "7\n")
}

// A front that is stopped and then killed leaves nobody stopped behind.
func TestAStoppedRunWhoseFrontIsKilledEnds(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--on-exit", "echo 1 >>cleaned", "--", "sh", "-c",
		// A shell that is starting it (vfork(2)) waits for a child that is suspended, and is not suspended itself.
		"echo $$ >target; exec sleep 1000")
	target := p.pidIn("target")
	p.signal(unix.SIGTSTP)
	p.until("stop of us and of the target", func() bool { return state(p.cmd.Process.Pid) == "T" && state(target) == "T" })
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	p.gone(target)
	p.file("cleaned")
}

// CI runners hunt what a job has left behind by a variable in its environment. The target is theirs to kill; whoever
// cleans up is not.
func TestOnlyTheTargetCarriesTheCookieOfACIRunner(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := command(t, "graceful", "run", "--on-exit", "env >cleanup", "--", "sh", "-c",
		"env >target; echo >ready; sleep 1000")
	cookies := []string{"RUNNER_TRACKING_ID=github_1", "JENKINS_NODE_COOKIE=1", "BUILD_ID=7", "JENKINS_SERVER_COOKIE=1"}
	p.cmd.Env = append(os.Environ(), cookies...)
	p.start()
	p.file("ready")
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.supervisor()))
	if err != nil {
		t.Fatal(err)
	}
	p.signal(unix.SIGTERM)
	p.want("143")
	for _, cookie := range cookies {
		if strings.Contains(string(environ), cookie) {
			t.Errorf("the supervisor carries %s", cookie)
		}
		if !strings.Contains(p.file("target"), cookie+"\n") {
			t.Errorf("the target lacks %s", cookie)
		}
		if in := strings.Contains(p.file("cleanup"), cookie+"\n"); in != strings.HasPrefix(cookie, "BUILD_ID") {
			t.Errorf("the cleanup command has %s: %t", cookie, in)
		}
	}
}

func TestWhereThereIsAGuard(t *testing.T) {
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
		p.wrote("n", c.want+"\n")
	}
}
