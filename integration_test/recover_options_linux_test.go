package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// With --survivors keep, recover ends the target and leaves the survivors alone. That also holds for a recover outside
// of the PID namespace of the run.
func TestRecover_keepsSurvivorsFromOutside(t *testing.T) {
	need(t, "setsid")
	t.Parallel()
	p := startInNamespace(t, "setsid sleep 1000 & echo >ready; exec sleep 1001", "--survivors", "keep",
		"--on-exit", cleanedBy)
	p.waitForFile("ready")
	p.untilRecorded("target started")
	graceful := gracefulPID(p)
	target := childrenOf(guardOf(graceful))[0]
	p.until("execution of the target", func() bool { return comm(target) == "sleep" && len(childrenOf(target)) == 1 })
	survivor := childrenOf(target)[0]
	killBoth(t, graceful)
	if status, text := p.runGraceful(nil, recoverState...); status != "0" {
		t.Errorf("recover: status %s, it wrote:\n%s", status, text)
	}
	p.wantFile("cleaned", "recovered\n")
	if alive(target) || !alive(survivor) {
		t.Errorf("alive: target %t, survivor %t", alive(target), alive(survivor))
	}
}

// A recover that left the survivors alone is killed while a cleanup command runs. The next recover also leaves the
// survivors alone.
func TestRecover_keepsSurvivorsAfterAKilledRecover(t *testing.T) {
	need(t, "linux", "setsid")
	t.Parallel()
	p := start(t, "graceful", "run", "--survivors", "keep", "--state-dir", "state", "--on-exit",
		"echo $$ >cleaning; exec sleep 1000", "--", "sh", "-c",
		"setsid sh -c 'echo $$ >survivor; exec sleep 1000' & echo $$ >target; exec sleep 1000")
	target, survivor, guard := p.pidIn("target"), p.pidIn("survivor"), p.guard()
	t.Cleanup(func() { kill(t, survivor) })
	killBoth(t, p.cmd.Process.Pid)
	p.want("KILL")
	p.until("end of the guard", func() bool { return !alive(guard) })
	dir := filepath.Join(p.dir, "state")
	p.until("release of the lock", func() bool { return unlocked(t, dir) })
	first := start(t, "graceful", "recover", "--state-dir", dir)
	command := p.pidIn("cleaning")
	kill(t, first.cmd.Process.Pid, command)
	first.want("KILL")
	p.until("end of the command", func() bool { return !alive(command) })
	second := start(t, "graceful", "recover", "--state-dir", dir)
	second.want("1") // the command was interrupted
	if alive(target) || !alive(survivor) {
		t.Errorf("alive: target %t, survivor %t; recover wrote:\n%s", alive(target), alive(survivor), second.text())
	}
}

// SIGTERM stops recover, whatever --stop-on and --rewrite of the dead run were. recover waits for the current cleanup
// command, and does not begin with the next run.
func TestRecover_stopSignalDespiteOptionsOfTheRun(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, flag := range []string{"--stop-on=USR1", "--rewrite=TERM=0"} {
		dir := filepath.Join(t.TempDir(), "state")
		var runs []*proc
		for _, name := range []string{"a", "b"} {
			p := start(t, "graceful", "run", flag, "--name", name, "--state-dir", dir, "--on-exit",
				"echo >cleaning; until [ -e go ]; do sleep 0.01; done; echo 1 >>cleaned", "--", "sh", "-c",
				"echo $$ >ready; exec sleep 1000")
			p.pidIn("ready")
			guard := p.guard()
			killBoth(t, p.cmd.Process.Pid)
			p.want("KILL")
			p.until("end of the guard", func() bool { return !alive(guard) })
			runs = append(runs, p)
		}
		p := runs[0]
		p.until("release of the locks", func() bool { return unlocked(t, dir) })
		r := start(t, "graceful", "recover", "-v", "--state-dir", dir)
		p.waitForFile("cleaning")
		r.signal(unix.SIGTERM)
		r.until("signal", func() bool { return strings.Contains(r.text(), "received signal signal=TERM") })
		p.touch("go")
		r.want("143")
		p.wantFile("cleaned", "1\n")
		if _, err := os.Stat(filepath.Join(runs[1].dir, "cleaning")); err == nil {
			t.Errorf("%s: recover also finished the second run", flag)
		}
		kill(t, runs[1].pidIn("ready")) // recover has not ended the target of the second run
	}
}
