//go:build engines

package engines

import (
	"strings"
	"testing"
)

// stateFlags record the run in a volume, under a name.
func stateFlags(volume string) []string {
	return []string{"-v", volume + ":/state", "-e", "GRACEFUL_STATE_DIR=/state", "-e", "GRACEFUL_NAME=x"}
}

const recovered = "cleaned recovered 0\n"

// The engine kills all processes when its time is over. The next start of the container runs cleanup.
func testContainerStopTooShort(t *testing.T, e *containerEngine) {
	volume := e.volume(t)
	c := e.run(t, stubbornScript, append(stateFlags(volume), "-e", "GRACEFUL_GRACE=10m")...)
	c.stop("1")
	c.wantEnd("137", "ready\n")
	c.do(t, "start", c.name)
	c.waitForText("ready\n" + recovered + "ready\n")
}

// A kill of the container takes all of it at once. Its next start runs cleanup, before the target.
func testContainerKill(t *testing.T, e *containerEngine) {
	volume := e.volume(t)
	c := e.run(t, serviceScript, stateFlags(volume)...)
	c.do(t, "kill", c.name)
	c.wantEnd("137", "ready\n")
	c.do(t, "start", c.name)
	c.waitForText("ready\n" + recovered + "ready\n")
	c.do(t, "restart", "--time", "60", c.name)
	c.waitForText("ready\n" + recovered + stopped + "ready\n")
	c.stop("60")
	c.wantEnd("3", "ready\n"+recovered+stopped+stopped)
}

// The engine's init ends with graceful, and the guard with it. The next start runs cleanup, and so does recover.
func testContainerKillInit(t *testing.T, e *containerEngine) {
	volume := e.volume(t)
	c := e.run(t, serviceScript, append(stateFlags(volume), "--init")...)
	c.do(t, "kill", c.name)
	c.wantEnd("137", "ready\n")
	c.do(t, "start", c.name)
	c.waitForText("ready\n" + recovered + "ready\n")
	c.do(t, "kill", c.name)
	c.wantEnd("137", "ready\n"+recovered+"ready\n")
	if got := e.recover(t, volume); got != recovered {
		t.Errorf("recover wrote %q", got)
	}
}

// recover finishes the killed runs in a volume, from a container of its own, and returns what that writes.
func (e *containerEngine) recover(t *testing.T, volume string) string {
	t.Helper()
	c := e.newContainer(t)
	c.do(t, c.flags([]string{"--detach", "--entrypoint", "/graceful", "-v", volume + ":/state"},
		"recover", "--quiet", "--state-dir", "/state")...)
	until(t, "end of recover", func() bool { return c.inspect("{{.State.Running}}") == "false" })
	if status := c.inspect("{{.State.ExitCode}}"); status != "0" {
		t.Errorf("the status of recover is %s", status)
	}
	return c.text()
}

// In the PID namespace of the machine the engine kills the guard a moment after graceful, or not at all: the guard runs
// cleanup, or the next start does. If the guard is killed between the two, the next start says which command it began.
func testContainerKillHostPids(t *testing.T, e *containerEngine) {
	volume := e.volume(t)
	c := e.run(t, serviceScript, append(stateFlags(volume), "--pid", "host", // the engine may read no output of the guard
		"-e", "GRACEFUL_ON_EXIT=echo $GRACEFUL_REASON >>/state/cleaned")...)
	c.do(t, "kill", c.name)
	until(t, "end of all processes", func() bool { return len(processesOf(c.mark)) == 0 })
	until(t, "end of the container", func() bool { return c.inspect("{{.State.Running}}") == "false" })
	c.do(t, "start", c.name)
	until(t, "second start", func() bool { return len(processesOf(c.mark)) == 1 })
	cleaned, _ := c.output("exec", c.name, "cat", "/state/cleaned")
	interrupted := strings.Contains(c.do(t, "logs", c.name), "cleanup command interrupted")
	if !interrupted && cleaned != "orphaned" && cleaned != "recovered" {
		t.Errorf("the cleanup command wrote %q", cleaned)
	}
	c.stop("60")
	until(t, "end of all processes", func() bool { return len(processesOf(c.mark)) == 0 })
}

// The container is gone: another one with the volume runs its cleanup, by recover or by its next run.
func testContainerKillElsewhere(t *testing.T, e *containerEngine) {
	volume := e.volume(t)
	kill := func() {
		c := e.run(t, serviceScript, stateFlags(volume)...)
		c.do(t, "kill", c.name)
		c.do(t, "rm", "--force", c.name)
		until(t, "end of all processes", func() bool { return len(processesOf(c.mark)) == 0 })
	}
	kill()
	if got := e.recover(t, volume); got != recovered {
		t.Errorf("recover wrote %q", got)
	}
	kill()
	c := e.newContainer(t)
	c.do(t, c.flags(append(stateFlags(volume), "--detach"), "sh", "-c", serviceScript)...)
	c.waitForText(recovered + "ready\n")
	c.stop("60")
	c.wantEnd("3", recovered+stopped)
}

// The kernel kills the target, whose cleanup follows; or graceful, and with it the container.
func testContainerOutOfMemory(t *testing.T, e *containerEngine) {
	const allocate = `exec dd if=/dev/zero of=/dev/null bs=256M`
	volume := e.volume(t)
	flags := append(stateFlags(volume), "--memory", "64m", "--memory-swap", "64m")
	t.Run("target", func(t *testing.T) {
		c := e.run(t, `setsid sleep $MARK & echo ready; `+allocate, flags...)
		c.wantEnd("137", "ready\ncleaned signaled 0\n")
	})
	t.Run("graceful", func(t *testing.T) {
		// The kernel prefers the process with the highest value. At the second start this is nobody.
		c := e.run(t, `echo ready; [ ! -e /once ] || exec sleep $MARK; echo >/once
			echo 1000 >/proc/1/oom_score_adj; `+allocate, flags...)
		c.wantEnd("137", "ready\n")
		c.do(t, "start", c.name)
		c.waitForText("ready\n" + recovered + "ready\n")
		c.stop("60")
		c.wantEnd("143", "ready\n"+recovered+"ready\ncleaned stopped 0\n")
	})
}
