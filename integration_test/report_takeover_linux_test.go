package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// reportingRun is a run that writes its pid to ./running, and stays. Beside it are the directories dir and hostile.
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

// killBoth kills front and supervisor, and waits until the ledger can be had.
func (p *proc) killBoth(t *testing.T, state string) {
	t.Helper()
	bothKilled(t, p.cmd.Process.Pid)
	p.want("KILL")
	p.until("end of the lock", func() bool { return unlocked(t, state) })
}

// isReport tells whether a file is a report that only we may read.
func isReport(path string) bool {
	text, err := os.ReadFile(path)
	st, err1 := os.Lstat(path)
	return err == nil && err1 == nil && st.Mode() == 0o600 && strings.HasPrefix(string(text), startOfReport)
}

// The process that finishes the run writes the report to the directory that was there at the start.
func TestAReportAfterATakeoverGoesWhereItsPathLed(t *testing.T) {
	for _, victim := range []string{"front", "supervisor"} {
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
				p.file("running")
				supervisor := p.supervisor()
				p.sh(c.change)
				if victim == "front" {
					kill(t, p.cmd.Process.Pid)
				} else {
					kill(t, supervisor)
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

// When both are killed, recover follows no link: neither one that it finds where a directory was, nor in a path of an
// earlier version's ledger, which was not resolved.
func TestRecoverFollowsNoLinkToAReport(t *testing.T) {
	const followed = ": too many levels of symbolic links\n"
	for name, c := range map[string]struct{ report, change, want, wrote string }{
		"nothing has changed":     {"dir/r", "", "dir/r", ""},
		"it was given by a link":  {"ours/r", "ln -sfn hostile ours", "dir/r", ""},
		"the directory is made":   {"dir/new/r", "mkdir dir/new", "dir/new/r", ""},
		"the directory is a link": {"dir/r", "mv dir was; ln -s hostile dir", "", "/dir/r" + followed},
		"the file is a link":      {"dir/r", "ln -s ../hostile/r dir/r", "", "/dir/r" + followed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, state := reportingRun(t, c.report)
			p.start()
			p.file("running")
			p.sh(c.change)
			p.killBoth(t, state)
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
		p, lines := killedIn(t, "target", "running", "--report", "dir/r",
			"--", "sh", "-c", "echo >running; exec sleep 1000")
		p.sh("mkdir hostile; ln -s hostile ours")
		lines[0] = rewrite(t, lines[0], func(_, begin map[string]any) { begin["report"] = p.dir + "/ours/r" })
		said := recoverIn(t, stateDir(t, strings.Join(lines, "")), "0")
		if want := "writing report " + p.dir + "/ours/r" + followed; !strings.Contains(said, want) {
			t.Errorf("recover wrote\n%s", said)
		}
		if got := inDir(t, filepath.Join(p.dir, "hostile")); got != "" {
			t.Errorf("the hostile directory has %s", got)
		}
	})
}
