package cmd

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"graceful/runner/doctor"
)

// Everything that doctor.Examine can find has a text.
func TestFindingsText_knowsEveryName(t *testing.T) {
	for _, name := range []string{
		doctor.CheckTree, doctor.CheckCgroup, doctor.CheckPids, doctor.CheckGuard, doctor.CheckProcesses,
		doctor.CheckShell, doctor.CheckSocket, doctor.CheckSignals, doctor.CheckState, doctor.CheckParent,
		doctor.CheckTerminal,
	} {
		if promises[name] == "" {
			t.Errorf("the check %s has no text", name)
		}
	}
	for _, name := range []string{
		doctor.TargetEnds, doctor.FrontKilled, doctor.SupervisorKilled, doctor.AllKilled, doctor.ContainerKilled,
		doctor.MachineStops,
	} {
		if events[name] == "" {
			t.Errorf("%s has no text", name)
		}
	}
	for _, name := range []string{
		doctor.TreeEnded, doctor.TreeGroup, doctor.TreeGone, doctor.TreeLeft, doctor.TreeRecovered,
	} {
		if treeFates[name] == "" {
			t.Errorf("%s has no text", name)
		}
	}
	for _, name := range []string{doctor.CleanupRun, doctor.CleanupRecovered, doctor.CleanupLost} {
		if cleanupFates[name] == "" {
			t.Errorf("%s has no text", name)
		}
	}
}

// Each check has one line, even if a path in it has several. The worst result of the required checks decides.
func TestFindingsText(t *testing.T) {
	f := doctor.Findings{
		Checks: []doctor.Check{
			{Name: doctor.CheckTree, Required: true, Holds: doctor.Yes, Detail: "level subreaper"},
			{Name: doctor.CheckGuard, Required: true, Holds: doctor.Partly, Why: "as PID 1", Hint: "take another"},
			{Name: doctor.CheckShell, Holds: doctor.No, Why: "a\nb"},
		},
		Survival: []doctor.Fate{{When: doctor.AllKilled, Tree: doctor.TreeLeft, Cleanup: doctor.CleanupLost}},
	}
	for _, c := range []struct {
		guard doctor.Holds
		text  string
	}{
		{doctor.Yes, "all required promises hold here"},
		{doctor.Partly, "all required promises hold here, with exceptions: guard"},
		{doctor.No, "not all required promises hold here: guard"},
	} {
		f.Checks[1].Holds = c.guard
		mark := map[doctor.Holds]string{doctor.Yes: "ok  ", doctor.Partly: "part", doctor.No: "no  "}[c.guard]
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
