package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	waitsForKilled = "waiting until a killed run is finished"
	livesText      = "a run named serve lives"
)

// runStubborn starts a run with a given name. Its target ignores SIGTERM, so that a stop takes the whole grace.
func (n named) runStubborn(grace string) *proc {
	n.t.Helper()
	p := n.run(true, "trap '' TERM; echo $$ >target; while :; do sleep 0.01; done", "--grace", grace,
		"--on-exit", "echo $GRACEFUL_REASON >>cleaned")
	p.pidIn("target")
	return p
}

// A supervisor restarts a run as soon as the run's first process was killed. The new run waits until another process of
// graceful has finished the old run. If there is no such process, the new run finishes the old one itself.
func TestName_restartWaitsForTheKilledRun(t *testing.T) {
	need(t, "linux")
	for name, end := range map[string]func(t *testing.T, n named, p *proc){
		"by the guard": func(t *testing.T, _ named, p *proc) { kill(t, p.cmd.Process.Pid); p.want("KILL") },
		"by a second successor": func(t *testing.T, _ named, p *proc) {
			guard := p.guard()
			kill(t, p.cmd.Process.Pid)
			p.want("KILL")
			kill(t, p.successor(guard))
		},
		"by recover": func(t *testing.T, n named, p *proc) {
			n.kill(p)
			start(t, "graceful", "recover", "-v", "--state-dir", n.state).waitForText("recovering run")
		},
		"by another start": func(_ *testing.T, n named, p *proc) {
			n.kill(p)
			n.run(false, "exit 3").waitForText("finishing a killed run first")
		},
		"by the guard, unreaped": func(t *testing.T, _ named, p *proc) { // the test does not reap the killed graceful
			kill(t, p.cmd.Process.Pid)
		},
		"by itself": func(_ *testing.T, n named, p *proc) { n.kill(p) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNamed(t, "serve")
			old := n.runStubborn("1500ms")
			target := old.pidIn("target")
			end(t, n, old)
			next := n.run(true, fmt.Sprintf(
				`case "$(cut -d' ' -f3 /proc/%d/stat 2>/dev/null)" in ""|Z) cat %s/cleaned;; *) exit 4;; esac`, target, old.dir))
			next.want("0")
			said, waits := next.text(), 1
			if name == "by itself" {
				waits = 0
			}
			if reason := lastLine(withoutLog(said)); reason != "recovered" && reason != "orphaned" ||
				strings.Count(said, waitsForKilled) != waits {
				t.Errorf("it wrote:\n%s", said)
			}
			next.until("empty state directory", func() bool { return inDir(t, n.state) == "" }) // "another start" may end last
		})
	}
}

// A stop signal ends a waiting run at once, and so does the end of the parent with --die-with-parent. The run then
// starts nothing. Signals for the target are kept. A signal that --rewrite discards has no effect.
func TestName_signalsToAWaitingRun(t *testing.T) {
	need(t, "linux")
	for name, c := range map[string]struct {
		signals []unix.Signal
		flags   []string
		status  string // of the new run; "": not checked
		goOn    bool   // the test lets the old run end, and the new run begins
	}{
		"TERM":                  {[]unix.Signal{unix.SIGTERM}, nil, "143", false},
		"INT, raised again":     {[]unix.Signal{unix.SIGINT}, []string{"--reraise"}, "INT", false},
		"TERM, remapped":        {[]unix.Signal{unix.SIGTERM}, []string{"--remap-exit", "143=0"}, "0", false},
		"TERM, with no effect":  {[]unix.Signal{unix.SIGTERM}, []string{"--rewrite", "TERM=0"}, "3", true},
		"USR1, for the target":  {[]unix.Signal{unix.SIGUSR1}, nil, "138", true},
		"QUIT after a HUP":      {[]unix.Signal{unix.SIGHUP, unix.SIGQUIT}, nil, "131", false},
		"the end of the parent": {nil, []string{"--die-with-parent"}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNamed(t, "serve")
			old := n.runStubborn("1h")
			kill(t, old.cmd.Process.Pid)
			old.want("KILL")
			script := fmt.Sprintf("echo >%s/started; sleep 0.3; exit 3", old.dir)
			var next *proc
			if c.signals == nil {
				next = start(t, slices.Concat([]string{"sh", "-c", `"$@" & echo $! >pid; wait`, "sh", "graceful", "run",
					"--state-dir", n.state, "--name", "serve"}, c.flags, []string{"--", n.shell, script})...)
			} else {
				next = n.run(true, script, c.flags...)
			}
			next.waitForText(waitsForKilled)
			for _, sig := range c.signals {
				next.signal(sig)
			}
			if c.signals == nil {
				pid := next.pidIn("pid")
				kill(t, next.cmd.Process.Pid)
				next.want("KILL")
				next.until("end of graceful", func() bool { return !alive(pid) })
			}
			if c.goOn {
				time.Sleep(50 * time.Millisecond) // so that the signal arrives while the run waits
				kill(t, old.pidIn("target"))
			}
			if c.status != "" {
				next.want(c.status)
			}
			if strings.Count(next.text(), waitsForKilled) != 1 || !c.goOn && isThere(old.dir+"/started") {
				t.Errorf("the run started a command, or wrote:\n%s", next.text())
			}
			kill(t, old.pidIn("target"))
			old.until("end of the old run", func() bool { return inDir(t, n.state) == "" })
		})
	}
}

// SIGTSTP suspends a waiting run. If the old run ends meanwhile, the waiting run begins after SIGCONT.
func TestName_waitingRunIsSuspended(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	n := newNamed(t, "serve")
	old := n.runStubborn("1h")
	kill(t, old.cmd.Process.Pid)
	old.want("KILL")
	next := n.run(true, "exit 3")
	next.waitForText(waitsForKilled)
	next.signal(unix.SIGTSTP)
	next.until("suspension", func() bool { return processState(next.cmd.Process.Pid) == "T" })
	kill(t, old.pidIn("target"))
	old.until("end of the old run", func() bool { return inDir(t, n.state) == "" })
	next.signal(unix.SIGCONT)
	next.want("3")
}

// If a run of the name is alive, a new run is refused. With --wait-for-name, the new run waits for the end of that run,
// and is refused only if the time runs out. A stop signal ends the wait.
func TestWaitForName_liveRun(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	n := newNamed(t, "serve")
	old := n.runStubborn("100ms")
	refused := n.run(true, "exit 3")
	refused.want("125")
	said := refused.text()
	if !strings.Contains(said, livesText+": ") || !strings.Contains(said, "(--wait-for-name TIME") {
		t.Errorf("it wrote:\n%s", said)
	}
	began := time.Now()
	refused = n.run(true, "exit 3", "--wait-for-name", "700ms")
	refused.want("125")
	said = refused.text()
	if !strings.HasSuffix(said, livesText+": waited 700ms for its end\n") || strings.Count(said, "\n") != 1 ||
		time.Since(began) < 700*time.Millisecond {
		t.Errorf("after %v it wrote:\n%s", time.Since(began), said)
	}
	stopped := n.run(true, "exit 3", "-v", "--wait-for-name", "1h")
	stopped.waitForText("waiting for the end of a run name=serve")
	stopped.signal(unix.SIGTERM)
	stopped.want("143")
	var waiting []*proc
	for range 3 {
		waiting = append(waiting, n.run(true, "exit 3", "-v", "--wait-for-name", "1h"))
	}
	for _, p := range waiting {
		p.waitForText("waiting for the end of a run name=serve")
	}
	old.signal(unix.SIGTERM)
	old.want("137")
	for _, p := range waiting {
		p.want("3")
	}
	if left := inDir(t, n.state); left != "" {
		t.Errorf("left in the state directory: %s", left)
	}
}

// --wait-for-name requires --state-dir and --name, and a time that is not negative. If one of these requirements is not
// met, graceful starts nothing.
func TestWaitForName_withoutAName(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for _, c := range []struct{ flags, says string }{
		{"--wait-for-name 5s --name x", "--wait-for-name: without --state-dir and --name"},
		{"--wait-for-name 5s --state-dir state", "--wait-for-name: without --state-dir and --name"},
		{"--wait-for-name -5s --name x --state-dir state", `"-5s" is less than 0`},
	} {
		p := start(t, append(append([]string{"graceful", "run"}, strings.Fields(c.flags)...), "--", "true")...)
		if status := p.wait(); status != "125" || !strings.Contains(p.text(), c.says) || isThere(p.dir+"/state") {
			t.Errorf("%s: status %s, it wrote:\n%s", c.flags, status, p.text())
		}
	}
	p := command(t, "graceful", "run", "--state-dir", "state", "--name", "x", "--", "true")
	p.cmd.Env = append(os.Environ(), "GRACEFUL_WAIT_FOR_NAME=5s")
	p.start().want("0")
}

// The ledger contains the pid of the first process of a run, and the time at which the run began. A process that
// started later with the same pid does not count as the first process. If graceful cannot determine whether the first
// process lives, the run counts as alive.
func TestName_whichRunIsAlive(t *testing.T) {
	need(t, "linux")
	p, lines := startAndKill(t, "target", "target", "--on-exit", "echo >>cleaned", "--", "sh", "-c",
		"echo $$ >target; exec sleep 1000")
	kill(t, p.pidIn("target"))
	time.Sleep(20 * time.Millisecond) // start times have a resolution of 10 ms, and the start time of later must differ
	later := start(t, "sleep", "1000").cmd.Process.Pid
	boot, namespace, _ := strings.Cut(bootOf(t, lines[0]), " ")
	front := func(pid int) func(map[string]any) { return func(begin map[string]any) { begin["front"] = pid } }
	for name, c := range map[string]struct {
		change func(begin map[string]any)
		lives  bool
	}{
		"no process with its pid":  {func(map[string]any) {}, false},
		"a later one with its pid": {front(later), false},
		"an earlier one":           {front(os.Getpid()), true},
		"PID 1 of another namespace": {func(begin map[string]any) {
			begin["front"], begin["boot"] = 1, boot+" pid:[1]"
		}, !initialNamespace(namespace)},
		"another machine": {func(begin map[string]any) {
			begin["boot"], begin["machine"] = "another "+namespace, strings.Repeat("0123456789abcdef", 2)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := stateDir(t, rewriteRecord(t, lines[0], func(_, begin map[string]any) { c.change(begin) })+lines[1])
			holder := lockFile(t, ledgerIn(dir))
			next := start(t, "graceful", "run", "--state-dir", dir, "--name", "x", "--", "sh", "-c", "exit 3")
			if c.lives {
				next.want("125")
				if !strings.Contains(next.text(), "a run named x lives") {
					t.Errorf("it wrote:\n%s", next.text())
				}
				return
			}
			next.waitForText(waitsForKilled)
			holder.Close()
			next.want("3")
			if left := inDir(t, dir); left != "" {
				t.Errorf("left in the state directory: %s", left)
			}
		})
	}
}

// lockFile locks a file, as a process of graceful that finishes a run locks the ledger. Closing the result unlocks the
// file.
func lockFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A supervisor restarts a run whenever graceful, the first process of the run, is killed. Only one target runs at a
// time, and each killed run is cleaned up once.
func TestName_repeatedRestarts(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	n := newNamed(t, "serve")
	shared := t.TempDir()
	for range rounds(20) {
		p := n.run(true, fmt.Sprintf(`mkdir %[1]s/lock || echo >>%[1]s/twice; echo >>ran; exec sleep 1000`, shared),
			"--on-exit", fmt.Sprintf("rmdir %[1]s/lock && echo >>%[1]s/cleaned", shared))
		p.waitForFile("ran")
		kill(t, p.cmd.Process.Pid)
		p.want("KILL")
	}
	n.run(true, "true").want("0")
	cleaned, _ := os.ReadFile(filepath.Join(shared, "cleaned"))
	if twice := isThere(shared + "/twice"); twice || len(cleaned) != rounds(20) || inDir(t, n.state) != "" {
		t.Errorf("%d runs were cleaned up; two at once: %t; left: %s", len(cleaned), twice, inDir(t, n.state))
	}
}
