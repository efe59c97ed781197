package cmd

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"graceful/runner/build"
	"graceful/runner/doctor"
)

// statusBroken is the exit status of doctor if a required promise does not hold.
const statusBroken = 1

func newDoctor(status *int) *cobra.Command {
	var stateDir string
	var strict, json bool
	c := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Report which guarantees hold on this machine, and why others do not",
		Long: `Report which guarantees of graceful run hold on this machine, for this user, in this place, and why
others do not. The checks do what a run does, and one of them is a run. They leave nothing behind.

Exit status: 0 if all required promises hold, even if with exceptions; 1 if one does not. Required
are the promises that graceful makes by default, and --state-dir if it was given. The status is 125
if graceful itself failed. Each flag has a variable: for --format, GRACEFUL_FORMAT.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			found := doctor.Examine(stateDir, strict)
			out := findingsOf(found)
			if out.Holds == doctor.No {
				*status = statusBroken
			}
			if json {
				return writeJSON(c.OutOrStdout(), out)
			}
			_, err := io.WriteString(c.OutOrStdout(), findingsText(found))
			return err
		},
	}
	g := newGroup("Examining", "graceful doctor --strict-state-dir --state-dir /var/lib/graceful",
		`graceful doctor --format json | jq '.checks[] | select(.holds != "yes")'`)
	g.Var(textValue(&stateDir, "DIR", completeDirectory), "state-dir", "directory that is to record runs")
	g.addSwitch(&strict, "strict-state-dir",
		"say no when another user can replace the state directory, through a parent of it")
	g.Var(formatValue(&json, "output"), "format", "form of output: text, json")
	addFlagGroups(c, g, environmentGroup("graceful doctor --no-env --state-dir /var/lib/graceful"))
	return c
}

// promises maps each check to the promise that it examines.
var promises = map[string]string{
	doctor.CheckTree:      "every process that the target starts ends with it",
	doctor.CheckCgroup:    "other users' processes end with it too, in one step (--contain cgroup)",
	doctor.CheckPids:      "no signal reaches another process that reuses a pid",
	doctor.CheckUsers:     "processes of other users can be signalled",
	doctor.CheckGuard:     "when graceful is killed, the tree is ended and cleanup commands run",
	doctor.CheckProcesses: "there are enough threads and processes for a run",
	doctor.CheckShell:     "cleanup commands may be in shell form",
	doctor.CheckSocket:    "processes can register cleanup commands (graceful defer)",
	doctor.CheckSignals:   "the target inherits the ignored and the blocked signals that graceful started with",
	doctor.CheckState:     "when all of graceful is killed, recover finishes the run",
	doctor.CheckParent:    "the death of the process that started graceful can stop a run (--die-with-parent)",
	doctor.CheckTerminal:  "the target can read from the terminal",
}

func findingsText(f doctor.Findings) string {
	var b strings.Builder
	width := 0
	for _, c := range f.Checks {
		width = max(width, len(c.Name))
	}
	required := map[doctor.Holds][]string{} // maps each result to the names of the required checks that have it
	for _, c := range f.Checks {
		if c.Required {
			required[c.Holds] = append(required[c.Holds], c.Name)
		}
		mark := map[doctor.Holds]string{doctor.Yes: "ok", doctor.Partly: "part", doctor.No: "no"}[c.Holds]
		line := promises[c.Name]
		if why := cmp.Or(c.Why, c.Detail); why != "" {
			line += ": " + why
		}
		if c.Hint != "" {
			line += " (" + c.Hint + ")"
		}
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", mark, width, c.Name, oneLine(line))
	}
	fmt.Fprintf(&b, "\n%-40s  %-24s  %s\n", "what happens", "the tree", "cleanup commands")
	for _, e := range f.Survival {
		fmt.Fprintf(&b, "%-40s  %-24s  %s\n", events[e.When], treeFates[e.Tree], cleanupFates[e.Cleanup])
	}
	b.WriteByte('\n')
	switch no, partly := required[doctor.No], required[doctor.Partly]; {
	case len(no) > 0:
		fmt.Fprintf(&b, "not all required promises hold here: %s\n", strings.Join(slices.Concat(no, partly), ", "))
	case len(partly) > 0:
		fmt.Fprintf(&b, "all required promises hold here, with exceptions: %s\n", strings.Join(partly, ", "))
	default:
		b.WriteString("all required promises hold here\n")
	}
	return b.String()
}

var (
	events = map[string]string{
		doctor.TargetEnds:      "the target ends, or is killed",
		doctor.GracefulKilled:  "graceful is killed",
		doctor.GuardKilled:     "its guard is killed",
		doctor.AllKilled:       "all of graceful is killed",
		doctor.ContainerKilled: "the container or cgroup is killed",
		doctor.MachineStops:    "the machine stops",
	}
	treeFates = map[string]string{
		doctor.TreeEnded:     "is ended",
		doctor.TreeGoesOn:    "goes on",
		doctor.TreeGroup:     "its process group is ended",
		doctor.TreeGone:      "is gone with it",
		doctor.TreeLeft:      "lives on",
		doctor.TreeRecovered: "is ended by recover",
	}
	cleanupFates = map[string]string{
		doctor.CleanupRun:       "run once",
		doctor.CleanupRecovered: "run once, by recover",
		doctor.CleanupLost:      "are lost",
	}
)

// findingsJSON is the output of doctor --format json. docs/doctor.schema.json describes it.
type findingsJSON struct {
	Version    string        `json:"version"`
	System     doctor.System `json:"system"`
	Checks     []checkJSON   `json:"checks"`
	Guarantees []doctor.Fate `json:"guarantees"`
	Holds      doctor.Holds  `json:"holds"`
}

// checkJSON is a check with its promise.
type checkJSON struct {
	doctor.Check
	Promise string `json:"promise"`
}

// findingsOf adds the version, the promises, and the worst result of the required checks to f.
func findingsOf(f doctor.Findings) findingsJSON {
	out := findingsJSON{Version: build.Read().String(), System: f.System, Guarantees: f.Survival, Holds: doctor.Yes}
	for _, c := range f.Checks {
		out.Checks = append(out.Checks, checkJSON{c, promises[c.Name]})
		if c.Required && (c.Holds == doctor.No || out.Holds == doctor.Yes) {
			out.Holds = c.Holds
		}
	}
	return out
}
