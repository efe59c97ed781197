//go:build engines

package engines

import (
	"strings"
	"testing"
	"time"
)

// containerCase is a test that each container engine must pass.
type containerCase struct {
	name   string
	run    func(*testing.T, *containerEngine)
	limits bool // the test needs cgroup limits, which a rootless engine cannot set everywhere
}

var containerCases = []containerCase{
	{name: "stop", run: testContainerStop},
	{name: "stop of a target that ignores it", run: testContainerStopIgnored},
	{name: "kill with a stop signal", run: testContainerKillSignal},
	{name: "restart", run: testContainerRestart},
	{name: "stop signals of images", run: testContainerStopSignal},
	{name: "init", run: testContainerInit},
	{name: "restrictions", run: testContainerRestrictions},
	{name: "few processes", run: testContainerFewProcesses, limits: true},
	{name: "pid namespace of the machine", run: testContainerHostPIDs},
	{name: "exec", run: testContainerExec},
	{name: "a stop that is cut short", run: testContainerStopTooShort},
	{name: "kill and restart", run: testContainerKill},
	{name: "kill below an init", run: testContainerKillInit},
	{name: "kill in the pid namespace of the machine", run: testContainerKillHostPIDs},
	{name: "kill and another container", run: testContainerKillElsewhere},
	{name: "out of memory", run: testContainerOutOfMemory, limits: true},
	{name: "terminal", run: testContainerTerminal},
}

// testAll runs all cases with an engine. If limits is false, the engine cannot set cgroup limits, and testAll skips the
// cases that need them.
func (e *containerEngine) testAll(t *testing.T, limits bool) {
	for _, c := range containerCases {
		t.Run(c.name, func(t *testing.T) {
			if c.limits && !limits {
				t.Skip("no cgroup limits here")
			}
			t.Parallel()
			c.run(t, e)
		})
	}
}

// stop stops the container. seconds is the time that the engine allows for that.
func (c *container) stop(seconds string) {
	c.t.Helper()
	c.do(c.t, "stop", "--time", seconds, c.name)
}

const stopped = "ready\nstopped\ncleaned stopped 0\n"

// A stop of the container is a stop of the run: the target ends, then its daemon, and cleanup runs.
func testContainerStop(t *testing.T, e *containerEngine) {
	c := e.run(t, serviceScript)
	c.stop("60")
	c.wantEnd("3", stopped)
}

// The engine's default of ten seconds is enough for a target that ignores the stop. The deadline leaves 5.1 s to the
// target.
func testContainerStopIgnored(t *testing.T, e *containerEngine) {
	c := e.run(t, stubbornScript, "-e", "GRACEFUL_DEADLINE=9s", "-e", "GRACEFUL_ON_EXIT_TIMEOUT=3s")
	began := time.Now()
	c.do(t, "stop", c.name)
	t.Logf("%s stop took %.1f s", e.name, time.Since(began).Seconds())
	c.wantEnd("137", "ready\ncleaned stopped 0\n")
}

// If the engine kills the container with another signal than SIGKILL, graceful forwards that signal. SIGTERM stops the
// run.
func testContainerKillSignal(t *testing.T, e *containerEngine) {
	c := e.run(t, `trap 'echo reloaded' HUP; `+serviceScript)
	c.do(t, "kill", "--signal", "HUP", c.name)
	c.waitForText("reloaded\n")
	c.do(t, "kill", "--signal", "TERM", c.name)
	c.wantEnd("3", "ready\nreloaded\nstopped\ncleaned stopped 0\n")
}

// A restart stops the run, with cleanup, and starts another one.
func testContainerRestart(t *testing.T, e *containerEngine) {
	c := e.run(t, serviceScript)
	c.do(t, "restart", "--time", "60", c.name)
	c.waitForText(stopped + "ready\n")
	c.stop("60")
	c.wantEnd("3", stopped+stopped)
}

// An image may declare another stop signal than SIGTERM. By default SIGINT and SIGQUIT also stop a run. Other signals
// need --stop-on.
func testContainerStopSignal(t *testing.T, e *containerEngine) {
	quit := e.run(t, strings.Replace(serviceScript, "TERM", "QUIT", 1), "--stop-signal", "SIGQUIT")
	quit.stop("60")
	quit.wantEnd("3", stopped)
	winch := e.run(t, strings.Replace(serviceScript, "TERM", "WINCH", 1), "--stop-signal", "SIGWINCH",
		"-e", "GRACEFUL_STOP_ON=WINCH,TERM,INT")
	winch.stop("60")
	winch.wantEnd("3", stopped)
	halt := e.run(t, serviceScript, "--stop-signal", "SIGRTMIN+3",
		"-e", "GRACEFUL_STOP_ON=RTMIN+3,TERM,INT", "-e", "GRACEFUL_REWRITE=RTMIN+3=TERM")
	halt.stop("60")
	halt.wantEnd("3", stopped)
}

// The engine's init is PID 1. graceful has a guard below the init, and the guard cannot outlive the init.
func testContainerInit(t *testing.T, e *containerEngine) {
	c := e.run(t, serviceScript, "--init")
	if out, _ := c.output("exec", c.name, "/graceful", "doctor"); !strings.Contains(out, "PID 1") {
		t.Errorf("doctor does not say that the guard ends with PID 1:\n%s", out)
	}
	c.stop("60")
	c.wantEnd("3", stopped)
}

// Restrictions of a container do not restrict the run. The target also registers a command.
func testContainerRestrictions(t *testing.T, e *containerEngine) {
	restrictions := [][]string{
		{"--read-only"},
		{"--user", "12345:54321"},
		{"--cap-drop", "ALL"},
		{"--security-opt", "no-new-privileges"},
		{"--read-only", "--user", "12345:54321", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"},
	}
	for _, flags := range restrictions {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			t.Parallel()
			c := e.run(t, "/graceful defer -- echo deferred; "+serviceScript, flags...)
			c.stop("60")
			c.wantEnd("3", "2\nready\nstopped\ndeferred\ncleaned stopped 0\n")
		})
	}
}

// A target that starts processes up to the limit is ended. The cleanup commands can then start the processes that they
// need.
func testContainerFewProcesses(t *testing.T, e *containerEngine) {
	c := e.run(t, `trap '' TERM; storm() { while :; do setsid sleep $MARK & done; }
		storm 2>/dev/null & echo ready; while :; do wait; done`,
		"--pids-limit", "40", "-e", "GRACEFUL_GRACE=1s")
	until(t, "many processes", func() bool { return len(processesOf(c.mark)) > 10 })
	c.stop("60")
	until(t, "cleanup", func() bool { return strings.HasSuffix(c.text(), "cleaned stopped 0\n") })
	c.wantEnd(c.inspect("{{.State.ExitCode}}"), "ready\ncleaned stopped 0\n") // the exit status of the shell varies
}

// graceful is not PID 1, and finds the daemon among the processes of the machine. Podman sends the stop signal to all
// processes of the container at once. So the target may end before graceful gets the signal, and then the reason is
// "exited".
func testContainerHostPIDs(t *testing.T, e *containerEngine) {
	c := e.run(t, serviceScript, "--pid", "host")
	if n := len(processesOf(c.mark)); n != 1 {
		t.Errorf("%d daemons, want 1", n)
	}
	c.stop("60")
	until(t, "end of the container", func() bool { return c.inspect("{{.State.Running}}") == "false" })
	if text := strings.Replace(c.text(), "cleaned exited", "cleaned stopped", 1); text != stopped {
		t.Errorf("it wrote %q", text)
	}
	if n := len(processesOf(c.mark)); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

// A process that entered by exec gets SIGHUP and SIGTERM, but graceful does not wait for it. If the process ignores the
// signals, it ends when PID 1 ends.
func testContainerExec(t *testing.T, e *containerEngine) {
	c := e.run(t, serviceScript)
	c.do(t, "exec", "--detach", c.name, "sh", "-c", `trap 'echo told >/proc/1/fd/1; exit' TERM; echo inside >/proc/1/fd/1
		while :; do sleep 0.1; done`)
	c.do(t, "exec", "--detach", c.name, "sh", "-c", `trap '' TERM HUP; exec sleep $MARK`)
	until(t, "process that came by exec", func() bool { return len(processesOf(c.mark)) == 2 })
	c.waitForText("inside\n")
	c.stop("60")
	until(t, "end of the container", func() bool { return c.inspect("{{.State.Running}}") == "false" })
	text := strings.Replace(c.text(), "told\n", "", 1) // if the message came in time
	if text != "ready\ninside\nstopped\ncleaned stopped 1\n" {
		t.Errorf("it wrote %q", text)
	}
	until(t, "end of all processes", func() bool { return len(processesOf(c.mark)) == 0 })
}
