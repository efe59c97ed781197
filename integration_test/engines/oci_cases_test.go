//go:build engines

package engines

import (
	"strings"
	"testing"
	"time"
)

// Each case holds for each runtime, without an engine above the runtime.
func TestOCI_cases(t *testing.T) {
	cases := []struct {
		name string
		run  func(*testing.T, *oci)
	}{
		{"stop", testOCIStop},
		{"stop of all processes", testOCIStopAll},
		{"delete by force", testOCIDelete},
		{"without a state directory", testOCIDeleteStateless},
		{"pause before a stop", testOCIPause},
		{"pause during a stop", testOCIPauseLong},
		{"runtime killed", testOCIRuntimeKilled},
		{"exec", testOCIExec},
		{"page", testOCIPage},
	}
	for _, runtime := range []string{"runc", "crun"} {
		t.Run(runtime, func(t *testing.T) {
			r := newOCI(t, runtime)
			first := r.newContainer(t, serviceScript)
			first.run() // this skips all cases if the runtime does not work
			first.do(t, "delete", "--force", first.id)
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(t, r)
				})
			}
		})
	}
}

// SIGTERM to PID 1, which is graceful, stops the run, and cleanup runs.
func testOCIStop(t *testing.T, r *oci) {
	c := r.newContainer(t, serviceScript)
	c.run()
	c.do(t, "kill", c.id, "TERM")
	c.wantEnd(stopped)
}

// graceful, the target and the daemon get SIGTERM at the same time. The target may end before graceful reads the
// signal. In both cases cleanup runs once.
func testOCIStopAll(t *testing.T, r *oci) {
	c := r.newContainer(t, serviceScript)
	c.run()
	c.do(t, "kill", "--all", c.id, "TERM")
	until(t, "end of the container", func() bool { return c.status() == "stopped" })
	got := c.cleaned()
	if got != "cleaned stopped 0\n" && got != "cleaned exited 0\n" {
		t.Errorf("the cleanup command wrote %q", got)
	}
	c.wantEnd("ready\nstopped\n" + got)
}

// graceful is PID 1, and is killed together with all processes of the container. The next run with the state directory
// finishes the killed run.
func testOCIDelete(t *testing.T, r *oci) {
	c := r.newContainer(t, serviceScript)
	c.run()
	c.do(t, "delete", "--force", c.id)
	until(t, "end of all processes", func() bool { return len(processesOf(c.mark)) == 0 })
	c.run()
	c.do(t, "kill", c.id, "TERM")
	c.wantEnd("ready\n" + recovered + stopped)
}

// Without a state directory, no process cleans up after a container whose PID 1 was killed.
func testOCIDeleteStateless(t *testing.T, r *oci) {
	c := r.newContainer(t, serviceScript, "GRACEFUL_STATE_DIR=")
	c.run()
	c.do(t, "kill", c.id, "KILL")
	c.wantEnd("ready\n")
	c.run()
	c.do(t, "kill", c.id, "TERM")
	c.wantEnd("ready\n" + stopped)
}

// A frozen container gets the signal when it is resumed. It then still has the whole time for a stop.
func testOCIPause(t *testing.T, r *oci) {
	const pause = 3 * time.Second
	c := r.newContainer(t, strings.Replace(serviceScript, "echo stopped;", "sleep 1; echo stopped;", 1),
		"GRACEFUL_GRACE=30s", "GRACEFUL_DEADLINE=")
	c.run()
	c.do(t, "pause", c.id)
	c.do(t, "kill", c.id, "TERM")
	time.Sleep(pause)
	if got := c.status(); got != "paused" {
		t.Errorf("the container is %s", got)
	}
	if got := c.text(); got != "ready\n" {
		t.Errorf("paused, it wrote %q", got)
	}
	c.do(t, "resume", c.id)
	c.wantEnd(stopped)
}

// The grace expires while the container is frozen. When the container is resumed, graceful sends SIGKILL, and then runs
// cleanup.
func testOCIPauseLong(t *testing.T, r *oci) {
	const grace = 5 * time.Second
	c := r.newContainer(t, strings.Replace(stubbornScript, "trap ''", "trap 'echo asked'", 1),
		"GRACEFUL_GRACE="+grace.String(), "GRACEFUL_DEADLINE=")
	c.run()
	c.do(t, "kill", c.id, "TERM")
	until(t, "stop", func() bool { return strings.HasSuffix(c.text(), "asked\n") })
	c.do(t, "pause", c.id)
	if strings.Contains(c.text(), "cleaned") {
		t.Skip("the grace was over before the pause: this machine is slow")
	}
	time.Sleep(grace) // time also passes in the container
	if strings.Contains(c.text(), "cleaned") {
		t.Error("cleanup ran in a paused container")
	}
	c.do(t, "resume", c.id)
	resumed := time.Now()
	until(t, "cleanup", func() bool { return strings.HasSuffix(c.text(), "cleaned stopped 0\n") })
	t.Logf("%s: cleanup %.1f s after the container was resumed, grace %v", c.name, time.Since(resumed).Seconds(), grace)
	c.wantEnd("ready\nasked\ncleaned stopped 0\n")
}

// The runtime's process in the foreground is killed. The container continues, and a later stop reaches all of its
// processes.
func testOCIRuntimeKilled(t *testing.T, r *oci) {
	c := r.newContainer(t, strings.ReplaceAll(serviceScript, "echo ready", "echo ready >/state/ready"))
	ended := make(chan bool)
	go func() {
		defer close(ended)
		c.perform(strings.Join(c.command[:5], " ") + ` env -C "$PWD" sh -c 'echo $$ >runtime.pid; exec "$@"' sh ` +
			strings.Join(c.command[5:], " ") + " run " + c.id + " </dev/null >>" + c.id + ".log 2>&1")
	}()
	until(t, "ready service", func() bool { return exists(c.state + "/ready") })
	pid := strings.TrimSpace(content(c.dir + "/runtime.pid"))
	inside := append(c.command[1:5:5], "kill", "-KILL", pid) // pid belongs to the PID namespace of the runtime
	if out, ok := output(c.command[0], inside...); !ok {
		t.Fatal(out)
	}
	<-ended
	if got := c.status(); got != "running" {
		t.Errorf("without its runtime the container is %s", got)
	}
	if n := len(processesOf(c.mark)); n != 1 {
		t.Errorf("%d daemons, want 1", n)
	}
	c.do(t, "kill", c.id, "TERM")
	until(t, "end of the container", func() bool { return c.status() == "stopped" })
	until(t, "end of all processes", func() bool { return len(processesOf(c.mark)) == 0 })
	if got := c.cleaned(); got != "cleaned stopped 0\n" {
		t.Errorf("the cleanup command wrote %q", got)
	}
	if got := c.text(); r.name == "crun" && !strings.HasSuffix(got, "stopped\ncleaned stopped 0\n") {
		t.Errorf("the container wrote %q", got)
	}
}

// doctor reports that the whole run ends with PID 1. A process that entered by exec, and ignores signals, ends with PID
// 1.
func testOCIExec(t *testing.T, r *oci) {
	c := r.newContainer(t, serviceScript)
	c.run()
	out := c.do(t, "exec", c.id, "/graceful", "doctor")
	if !strings.Contains(out, "PID 1") || !strings.Contains(out, "run once, by recover") {
		t.Errorf("doctor writes\n%s", out)
	}
	c.do(t, "exec", "--detach", c.id, "/bin/sh", "-c", "trap '' TERM HUP; exec >/dev/null 2>&1; exec sleep "+c.mark)
	until(t, "process that came by exec", func() bool { return len(processesOf(c.mark)) == 2 })
	c.do(t, "kill", c.id, "TERM")
	c.wantEnd("ready\nstopped\ncleaned stopped 1\n")
}

// The commands of the page succeed, in order. After each block, the program flush has written the reasons that the page
// states.
func testOCIPage(t *testing.T, r *oci) {
	c := r.newContainer(t, serviceScript)
	want := []string{"cleaned stopped 0\n", "cleaned recovered 0\ncleaned stopped 0\n", "cleaned stopped 0\n"}
	if len(c.page.commands) != len(want) {
		t.Fatalf("the page has %d blocks of commands", len(c.page.commands))
	}
	for i, lines := range c.page.commands {
		before := c.cleaned()
		for _, line := range lines {
			if out, ok := c.perform(line); !ok {
				t.Fatalf("%s failed:\n%s%s", line, out, c.text())
			}
			switch {
			case strings.Contains(line, " run "):
				until(t, "ready service", func() bool { return strings.HasSuffix(c.text(), "ready\n") })
			case strings.Contains(line, " kill ") && c.status() != "paused", strings.Contains(line, " resume "):
				until(t, "end of the container", func() bool { return c.status() == "stopped" })
			}
		}
		if got := strings.TrimPrefix(c.cleaned(), before); got != want[i] {
			t.Errorf("flush wrote %q in block %d, want %q", got, i+1, want[i])
		}
		until(t, "end of all processes", func() bool { return len(processesOf(c.mark)) == 0 })
	}
}
