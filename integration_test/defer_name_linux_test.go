package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The name of a command replaces its command line in messages and in the report. That also holds after a takeover, and
// if recover finds the command interrupted.
func TestDefer_nameHidesTheCommandAfterATakeover(t *testing.T) {
	all := newReports(t)
	for _, victim := range []string{"graceful", "both"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "state")
			p := command(t, "graceful", "run", "-v", "--state-dir", dir, "--report", "report", "--", "sh", "work")
			err := os.WriteFile(filepath.Join(p.dir, "work"), []byte(
				"graceful defer --name hidden --shell -- ': s3cret; echo $$ >running; exec sleep 1000'"), 0o600)
			if err != nil {
				t.Fatal(err)
			}
			p.start()
			running := p.pidIn("running")
			p.until("the start in the log", func() bool { return strings.Contains(p.text(), "hidden") })
			recovered := ""
			if victim == "graceful" {
				guard := p.guard()
				kill(t, p.cmd.Process.Pid)
				kill(t, running)
				p.want("KILL")
				p.untilEnded([]int{guard})
			} else {
				killBoth(t, p.cmd.Process.Pid)
				p.want("KILL")
				p.killAndWait(running)
				recovered = recoverIn(t, dir, "1", "-v")
			}
			r := all.read(t, filepath.Join(p.dir, "report"))
			if c := r.Commands[0]; c.Command != "hidden" || value(c.Name) != "hidden" || c.Outcome == "succeeded" {
				t.Errorf("the report has %+v", c)
			}
			report, err := os.ReadFile(filepath.Join(p.dir, "report"))
			text := p.text() + recovered + string(report)
			if err != nil || strings.Contains(text, "s3cret") || strings.Count(text, "hidden") < 4 {
				t.Errorf("%v: it wrote\n%s", err, text)
			}
		})
	}
}
