package integration_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// reportingRun prepares a run with a report. Its target writes its pid to ./running, and stays. The working directory
// has the subdirectories dir and hostile, and the link ours to dir. state is the state directory.
func reportingRun(t *testing.T, report string) (p *proc, state string) {
	t.Helper()
	need(t, "linux")
	state = filepath.Join(t.TempDir(), "state")
	p = command(t, "graceful", "run", "--state-dir", state, "--grace", "200ms", "--report", report,
		"--", "sh", "-c", "echo $$ >running; exec sleep 1000")
	p.sh("mkdir dir hostile; ln -s dir ours")
	return p, state
}

// sh runs a script in the directory of a program.
func (p *proc) sh(script string) {
	p.t.Helper()
	c := command(p.t, "sh", "-ec", script)
	c.cmd.Dir = p.dir
	c.start().want("0")
}

// isReport reports whether a file is a report that only its owner may read.
func isReport(path string) bool {
	text, err := os.ReadFile(path)
	st, err1 := os.Lstat(path)
	return err == nil && err1 == nil && st.Mode() == 0o600 && strings.HasPrefix(string(text), startOfReport)
}

// After graceful or the guard was killed, the report goes to the directory to which its path led at the start. If that
// directory did not exist, the report goes to the directory that is made at the path during the run.
func TestReport_pathAfterATakeover(t *testing.T) {
	for _, victim := range []string{"graceful", "guard"} {
		for name, c := range map[string]struct{ report, change, want string }{
			"the directory is a link": {"dir/r", "mv dir was; ln -s hostile dir", "was/r"},
			"the link is another one": {"ours/r", "ln -sfn hostile ours", "dir/r"},
			"the file is a link":      {"dir/r", "ln -s ../hostile/r dir/r", "dir/r"},
			"the directory is made":   {"dir/new/r", "mkdir dir/new", "dir/new/r"},
		} {
			t.Run(victim+", "+name, func(t *testing.T) {
				t.Parallel()
				p, _ := reportingRun(t, c.report)
				p.start()
				p.waitForFile("running")
				p.sh(c.change)
				if victim == "graceful" {
					kill(t, p.cmd.Process.Pid)
				} else {
					p.loseGuard()
					p.signal(unix.SIGTERM)
				}
				p.wait()
				p.until("report", func() bool { return isReport(filepath.Join(p.dir, c.want)) })
				if got := inDir(t, filepath.Join(p.dir, "hostile")); got != "" {
					t.Errorf("the hostile directory has %s", got)
				}
			})
		}
	}
}

// After graceful and the guard were killed, recover follows no link to a report. That holds for a link that has
// replaced a directory or the file, and for an unresolved path in the ledger of an earlier version.
func TestRecover_followsNoLinkToAReport(t *testing.T) {
	const followed = ": too many levels of symbolic links\n"
	for name, c := range map[string]struct{ report, change, want, wrote string }{
		"nothing has changed":     {"dir/r", "", "dir/r", ""},
		"the path had a link":     {"ours/r", "ln -sfn hostile ours", "dir/r", ""},
		"the directory is made":   {"dir/new/r", "mkdir dir/new", "dir/new/r", ""},
		"the directory is a link": {"dir/r", "mv dir was; ln -s hostile dir", "", "/dir/r" + followed},
		"the file is a link":      {"dir/r", "ln -s ../hostile/r dir/r", "", "/dir/r" + followed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, state := reportingRun(t, c.report)
			p.start()
			p.waitForFile("running")
			p.sh(c.change)
			p.killBothAndUnlock(t, state)
			said := recoverIn(t, state, "0")
			if c.want != "" && !isReport(filepath.Join(p.dir, c.want)) {
				t.Errorf("no report in %s", c.want)
			}
			if strings.Contains(said, "writing report") != (c.wrote != "") || !strings.Contains(said, c.wrote) {
				t.Errorf("recover wrote\n%s", said)
			}
			if got := inDir(t, filepath.Join(p.dir, "hostile")); got != "" {
				t.Errorf("the hostile directory has %s", got)
			}
		})
	}
	t.Run("of an earlier version", func(t *testing.T) {
		t.Parallel()
		p, lines := startAndKill(t, "target", "running", "--report", "dir/r",
			"--", "sh", "-c", "echo >running; exec sleep 1000")
		p.sh("mkdir hostile; ln -s hostile ours")
		lines[0] = rewriteRecord(t, lines[0], func(_, begin map[string]any) { begin["report"] = p.dir + "/ours/r" })
		said := recoverIn(t, stateDir(t, strings.Join(lines, "")), "0")
		if want := "writing report " + p.dir + "/ours/r" + followed; !strings.Contains(said, want) {
			t.Errorf("recover wrote\n%s", said)
		}
		if got := inDir(t, filepath.Join(p.dir, "hostile")); got != "" {
			t.Errorf("the hostile directory has %s", got)
		}
	})
}

// moments lists the moments at which a run of runWaitingAt can wait, in the order of a run: while the target runs, in
// the on-stop command, after SIGTERM to the target, and in the on-exit command.
var moments = []string{"running", "stopping", "terminating", "cleaning"}

// runWaitingAt returns the command line of a run that creates the file with the name of the moment, and waits there.
// Each run also creates the file running.
func runWaitingAt(moment string, flags ...string) []string {
	wait := func(m string) string {
		if m == moment {
			return "echo $$ >" + m + "; exec sleep 1000"
		}
		return ":"
	}
	target := "trap '" + strings.Replace(wait("terminating"), "exec", "trap \"\" TERM;",
		1) + "; exit 7' TERM; echo $$ >running; while :; do sleep 0.01; done"
	return slices.Concat([]string{"graceful", "run", "--grace", "1s", "--on-exit-timeout", "1s", "--report", "report",
		"--on-stop", wait("stopping"), "--on-stop-timeout", "1s", "--on-exit", wait("cleaning")}, flags,
		[]string{"--", "sh", "-c", target})
}

// waitForMoment waits until a run of runWaitingAt waits at that moment. To reach a moment after "running",
// waitForMoment stops the run.
func (p *proc) waitForMoment(moment string) {
	p.t.Helper()
	p.waitForFile("running")
	if moment != "running" {
		p.signal(unix.SIGTERM)
		p.waitForFile(moment)
	}
}

// If graceful is killed while the run waits at one of the moments, a new graceful writes the report. If the guard is
// killed, graceful writes the report.
func TestReport_processKilled(t *testing.T) {
	all := newReports(t)
	for _, victim := range []string{"graceful", "guard"} {
		for _, moment := range moments {
			t.Run(victim+" "+moment, func(t *testing.T) {
				t.Parallel()
				p := start(t, runWaitingAt(moment)...)
				p.waitForMoment(moment)
				graceful, guard := p.cmd.Process.Pid, p.guard()
				reason := "stopped"
				if victim == "graceful" {
					kill(t, graceful)
					if moment == "running" {
						reason = "orphaned"
					}
				} else {
					p.loseGuard()
					if moment == "running" {
						p.signal(unix.SIGTERM)
					}
				}
				p.wait()
				p.waitForFile("report")
				r := all.read(t, filepath.Join(p.dir, "report"))
				taken := victim == "graceful"
				if r.TakenOver != taken || (r.Writer != graceful) != taken || r.PID != graceful ||
					taken && value(r.Guard) != guard || r.Target.Ended == nil || r.Target.Usage == nil {
					t.Errorf("the report is %+v", r)
				}
				if r.Reason != reason || reason == "stopped" && len(r.Received) != 1 {
					t.Errorf("reason: %s; received: %v", r.Reason, r.Received)
				}
				cut := map[string]string{"stopping": "succeeded timed-out", "cleaning": "timed-out succeeded"}
				if got := outcomes(r); got != cut[moment] && got != "succeeded succeeded" {
					t.Errorf("commands: %s", got)
				}
				p.wantNoDraft()
			})
		}
	}
}

// If graceful and the guard are killed, recover writes the report, from any working directory.
func TestRecover_writesTheReport(t *testing.T) {
	all := newReports(t)
	for _, moment := range moments {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "state")
			p := start(t, runWaitingAt(moment, "--state-dir", dir)...)
			p.waitForMoment(moment)
			killBoth(t, p.cmd.Process.Pid)
			p.want("KILL")
			p.until("release of the lock", func() bool { return unlocked(t, dir) })
			if moment == "cleaning" {
				p.killAndWait(p.pidIn("cleaning"))
			}
			recoverer := start(t, "graceful", "recover", "--state-dir", dir)
			recoverer.wait()
			r := all.read(t, filepath.Join(p.dir, "report"))
			if !r.TakenOver || r.Writer != recoverer.cmd.Process.Pid || r.PID != p.cmd.Process.Pid || r.Dir != p.dir ||
				r.Guard != nil {
				t.Errorf("the report is %+v", r)
			}
			if moment == "cleaning" {
				if r.Reason != "stopped" || *r.Target.ExitCode != 7 || outcomes(r) != "interrupted succeeded" {
					t.Errorf("the report is %+v", r)
				}
				recoverIn(t, dir, "1", "--retry-interrupted") // the command times out
				r = all.read(t, filepath.Join(p.dir, "report"))
				if outcomes(r) != "timed-out succeeded" {
					t.Errorf("after a retry: %s", outcomes(r))
				}
			} else if r.Reason != "recovered" || r.Target.Ended != nil || r.Target.ExitCode != nil || r.Target.Signal != nil {
				t.Errorf("the report is %+v", r)
			}
			p.wantNoDraft()
		})
	}
}

// If a run had already ended when graceful and the guard were killed, recover only writes the report.
func TestRecover_writesTheReportOfAnEndedRun(t *testing.T) {
	all := newReports(t)
	t.Parallel()
	p, lines := startAndKill(t, "command", "cleaning", "--report", "report", "--on-exit",
		"echo >>ran; echo $$ >cleaning; exec sleep 1000", "--", "sh", "-c", "exit 7")
	kill(t, p.pidIn("cleaning"))
	last := lines[len(lines)-1]
	for _, event := range []string{"command ended", "tree emptied"} {
		lines = append(lines, rewriteRecord(t, last, func(r, _ map[string]any) { r["event"], r["code"] = event, 3 }))
	}
	dir := stateDir(t, strings.Join(lines, ""))
	recoverIn(t, dir, "0")
	r := all.read(t, filepath.Join(p.dir, "report"))
	if !r.TakenOver || r.Reason != "exited" || r.ExitStatus != 7 || outcomes(r) != "failed" ||
		*r.Commands[0].ExitCode != 3 {
		t.Errorf("the report is %+v", r)
	}
	p.wantFile("ran", "\n")
	// If only the report cannot be written, the run counts as finished.
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	if said := recoverIn(t, stateDir(t, strings.Join(lines, "")), "0"); strings.Count(said, "\n") != 1 ||
		!strings.Contains(said, "writing report "+p.dir+"/report: no such file or directory\n") {
		t.Errorf("recover wrote:\n%s", said)
	}
}
