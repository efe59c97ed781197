package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A nested run ends before the outer run kills it, and cleans up. It logs a warning only if a limit that was set for it
// is shortened.
func TestStopBudget_nestedRuns(t *testing.T) {
	t.Parallel()
	const stubborn = "helper ignore TERM INT -- up"
	inner := func(flags, command string) string {
		return "graceful run " + flags + " --on-exit 'echo inner >>cleaned' -- " + command
	}
	for name, c := range map[string]struct{ outer, inner, warning string }{
		"equal limits":       {"--grace 2s", inner("--grace 2s", stubborn), "--grace 2s"},
		"default limits":     {"--grace 2s", inner("", stubborn), ""},
		"a hanging command":  {"--grace 2s", inner("--on-exit 'sleep 1000'", stubborn), ""},
		"a given time limit": {"--grace 2s", inner("--on-exit-timeout 9s", stubborn), "--on-exit-timeout 9s"},
		"a schedule": {"--stop-schedule TERM/1s/INT/1s", inner("--stop-schedule TERM/1s/INT/1s", stubborn),
			"--stop-schedule 2s"},
		"a drain":            {"--grace 2s", inner("--drain 9s", stubborn), "--drain 9s"},
		"on-stop commands":   {"--grace 2s", inner("--on-stop 'sleep 1000'", stubborn), ""},
		"a deadline":         {"--deadline 3s --on-exit-timeout 1s", inner("--deadline 9s", stubborn), "--deadline 9s"},
		"a smaller deadline": {"--grace 9s", inner("--deadline 1s --on-exit-timeout 300ms", stubborn), ""},
		"three levels": {"--grace 3s", "graceful run --grace 3s -- " + inner("--grace 3s", stubborn),
			"--grace 3s"},
		"without guards": {"--guard off --grace 2s", inner("--guard off --grace 2s", stubborn), "--grace 2s"},
		"registered": {"--grace 2s", "graceful run -- sh -c '" +
			`graceful defer --shell -- "echo inner >>cleaned"; exec ` + stubborn + "'", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "sh", "-c", "exec graceful run "+c.outer+" --on-exit 'echo outer >>cleaned' -- "+c.inner)
			p.waitForFile("up")
			p.signal(unix.SIGTERM)
			p.want("137") // the exit status of the inner run, which killed its target
			p.wantFile("cleaned", "inner\nouter\n")
			if got := strings.Contains(p.text(), "shortened for the outer run"); got != (c.warning != "") ||
				!strings.Contains(p.text(), c.warning) {
				t.Errorf("want a warning about %q; it wrote:\n%s", c.warning, p.text())
			}
			if strings.Contains(p.text(), "SIGKILL to graceful") {
				t.Errorf("the outer run killed the inner one:\n%s", p.text())
			}
		})
	}
}

// The time budget of a killed nested run does not apply to the recover that finishes the run.
func TestStopBudget_notForRecover(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "env", "GRACEFUL_STOP_BUDGET=1s", "graceful", "run", "--state-dir", "state", "--on-exit",
		"sleep 0.3; echo 1 >>cleaned", "--", "helper", "ignore", "TERM", "--", "up")
	target, guard := p.pidIn("up"), p.guard()
	p.signal(unix.SIGTERM)
	p.until("stop", func() bool {
		text, _ := os.ReadFile(filepath.Join(p.dir, "state", ledgersIn(p)[0]))
		return strings.Contains(string(text), "stop signal")
	})
	killBoth(t, p.cmd.Process.Pid)
	kill(t, target)
	p.want("KILL")
	p.until("end of the guard", func() bool { return !alive(guard) && !alive(target) })
	time.Sleep(1100 * time.Millisecond) // until the budget has expired
	r := start(t, "graceful", "recover", "--state-dir", filepath.Join(p.dir, "state"))
	r.want("0")
	p.wantFile("cleaned", "1\n")
}

// ledgersIn returns the names of the ledgers in the directory state.
func ledgersIn(p *proc) (names []string) {
	found, _ := filepath.Glob(filepath.Join(p.dir, "state", "*.ledger"))
	for _, path := range found {
		names = append(names, filepath.Base(path))
	}
	return names
}

// Any caller may set GRACEFUL_STOP_BUDGET. An invalid budget is an error, and nothing starts. With --no-env, graceful
// ignores the budget.
func TestStopBudget_setByTheCaller(t *testing.T) {
	t.Parallel()
	p := start(t, "env", "GRACEFUL_STOP_BUDGET=1s", "graceful", "run", "--on-exit", "echo 1 >>cleaned", "--",
		"helper", "ignore", "TERM", "--", "up")
	p.waitForFile("up")
	p.signal(unix.SIGTERM)
	p.want("137")
	p.wantFile("cleaned", "1\n")
	p = start(t, "env", "GRACEFUL_STOP_BUDGET=soon", "graceful", "run", "--", "sh", "-c", "echo >started")
	p.want("125")
	p.wantFile("started", "")
	if want := `graceful: GRACEFUL_STOP_BUDGET: "soon" is not a time`; !strings.HasPrefix(p.text(), want) {
		t.Errorf("it wrote %q, want %q", p.text(), want)
	}
	p = start(t, "env", "GRACEFUL_STOP_BUDGET=soon", "graceful", "run", "--no-env", "--", "true")
	p.want("0")
}
