package cmd

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"graceful/runner"
)

// Everything that runner.Examine can find has a text.
func TestFindingsText_knowsEveryName(t *testing.T) {
	for _, name := range []string{
		runner.CheckTree, runner.CheckCgroup, runner.CheckPids, runner.CheckGuard, runner.CheckProcesses,
		runner.CheckShell, runner.CheckSocket, runner.CheckSignals, runner.CheckState, runner.CheckParent,
		runner.CheckTerminal,
	} {
		if promises[name] == "" {
			t.Errorf("the check %s has no text", name)
		}
	}
	for _, name := range []string{
		runner.TargetEnds, runner.FrontKilled, runner.SupervisorKilled, runner.AllKilled, runner.ContainerKilled,
		runner.MachineStops,
	} {
		if events[name] == "" {
			t.Errorf("%s has no text", name)
		}
	}
	for _, name := range []string{
		runner.TreeEnded, runner.TreeGroup, runner.TreeGone, runner.TreeLeft, runner.TreeRecovered,
	} {
		if treeFates[name] == "" {
			t.Errorf("%s has no text", name)
		}
	}
	for _, name := range []string{runner.CleanupRun, runner.CleanupRecovered, runner.CleanupLost} {
		if cleanupFates[name] == "" {
			t.Errorf("%s has no text", name)
		}
	}
}

// Each check has one line, even if a path in it has several. The worst result of the required checks decides.
func TestFindingsText(t *testing.T) {
	f := runner.Findings{
		Checks: []runner.Check{
			{Name: runner.CheckTree, Required: true, Holds: runner.Yes, Detail: "level subreaper"},
			{Name: runner.CheckGuard, Required: true, Holds: runner.Partly, Why: "as PID 1", Hint: "take another"},
			{Name: runner.CheckShell, Holds: runner.No, Why: "a\nb"},
		},
		Survival: []runner.Fate{{Event: runner.AllKilled, Tree: runner.TreeLeft, Cleanup: runner.CleanupLost}},
	}
	for _, c := range []struct {
		guard runner.Holds
		text  string
	}{
		{runner.Yes, "all required promises hold here"},
		{runner.Partly, "all required promises hold here, with exceptions: guard"},
		{runner.No, "not all required promises hold here: guard"},
	} {
		f.Checks[1].Holds = c.guard
		mark := map[runner.Holds]string{runner.Yes: "ok  ", runner.Partly: "part", runner.No: "no  "}[c.guard]
		want := "ok    tree   every process that the target starts ends with it: level subreaper\n" +
			mark + "  guard  when graceful is killed, the tree is ended and cleanup commands run: " +
			"as PID 1 (take another)\n" +
			"no    shell  cleanup commands may be in shell form: a\\nb\n"
		text := findingsText(f)
		if !strings.HasPrefix(text, want) || !strings.HasSuffix(text, "\n"+c.text+"\n") {
			t.Errorf("it is\n%s\nwant\n%s...\n%s", text, want, c.text)
		}
		var b bytes.Buffer
		var out findingsJSON
		if err := writeJSON(&b, findingsOf(f)); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b.Bytes(), &out); err != nil || out.Holds != c.guard {
			t.Errorf("%v: it is\n%s", err, &b)
		}
	}
}
