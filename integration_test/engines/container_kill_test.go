//go:build engines

package engines

import (
	"strings"
	"testing"
)

// stateFlags returns flags that give a run the name x, and a state directory in a volume.
func stateFlags(volume string) []string {
	return []string{"-v", volume + ":/state", "-e", "GRACEFUL_STATE_DIR=/state", "-e", "GRACEFUL_NAME=x"}
}

const recovered = "cleaned recovered 0\n"

// When the time for a stop is over, the engine kills all processes. The next start of the container runs cleanup.
func testContainerStopTooShort(t *testing.T, e *containerEngine) {
	volume := e.volume(t)
	c := e.run(t, stubbornScript, append(stateFlags(volume), "-e", "GRACEFUL_GRACE=10m")...)
	c.stop("1")
	c.wantEnd("137", "ready\n")
	c.do(t, "start", c.name)
	c.waitForText("ready\n" + recovered + "ready\n")
}

// A kill of the container ends all processes at once. The next start of the container runs cleanup before the target.
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

// A kill of the container ends the engine's init, and with it graceful and the guard. The next start or recover runs
// cleanup.
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

// recover finishes the killed runs in a volume. It starts a new container, and returns the output of graceful recover.
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

// In the PID namespace of the machine, the engine kills the guard shortly after graceful, or not at all. So either the
// guard runs cleanup, or the next start does. If the guard is killed between the start and the end of a cleanup
// command, the next start names that command.
func testContainerKillHostPIDs(t *testing.T, e *containerEngine) {
	volume := e.volume(t)
	// The cleanup command writes to the volume, because the engine may no longer read the output of the guard.
	c := e.run(t, serviceScript, append(stateFlags(volume), "--pid", "host",
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

// The container is removed. Another container with the volume runs the cleanup: the container of a recover, or the next
// container with a run of the same name.
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

// If the kernel kills the target, cleanup follows. If the kernel kills graceful, the container ends, and its next start
// runs cleanup.
func testContainerOutOfMemory(t *testing.T, e *containerEngine) {
	const allocate = `exec dd if=/dev/zero of=/dev/null bs=256M`
	volume := e.volume(t)
	flags := append(stateFlags(volume), "--memory", "64m", "--memory-swap", "64m")
	t.Run("target", func(t *testing.T) {
		c := e.run(t, `setsid sleep $MARK & echo ready; `+allocate, flags...)
		c.wantEnd("137", "ready\ncleaned signaled 0\n")
	})
	t.Run("graceful", func(t *testing.T) {
		// Set oom_score_adj of PID 1, which is graceful, to the highest value, so that the kernel kills graceful first.
		// Do that only at the first start.
		c := e.run(t, `echo ready; [ ! -e /once ] || exec sleep $MARK; echo >/once
			echo 1000 >/proc/1/oom_score_adj; `+allocate, flags...)
		c.wantEnd("137", "ready\n")
		c.do(t, "start", c.name)
		c.waitForText("ready\n" + recovered + "ready\n")
		c.stop("60")
		c.wantEnd("143", "ready\n"+recovered+"ready\ncleaned stopped 0\n")
	})
}
