package cmd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"graceful/runner"

	"github.com/spf13/cobra"
)

// statusBroken is the exit status of doctor when a promise does not hold that is made by default.
const statusBroken = 1

func newDoctor(status *int) *cobra.Command {
	var stateDir string
	strict := false
	format := logText
	c := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Tell which guarantees hold on this machine, and why not",
		Long: `Tell which of graceful run's guarantees hold on this machine, for this user, in this place, and why
not. Each is tried by what a run does itself: among others, by a run. Nothing of that stays.

Exit status: 0 when all holds that is promised by default, or with --state-dir, be it with
exceptions; 1 when something of that does not; 125 if graceful itself failed. Each flag can be given
as a variable, --format as GRACEFUL_FORMAT.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := readVariables(c.Flags()); err != nil {
				return err
			}
			found := runner.Examine(stateDir, strict)
			if len(broken(found, runner.No)) > 0 {
				*status = statusBroken
			}
			if format == logJSON {
				return writeJSON(c.OutOrStdout(), found)
			}
			_, err := io.WriteString(c.OutOrStdout(), findingsText(found))
			return err
		},
	}
	g := newGroup("Examining", "graceful doctor --strict-state-dir --state-dir /var/lib/graceful",
		`graceful doctor --format json | jq '.checks[] | select(.holds != "yes")'`)
	g.Var(textValue{&stateDir, "DIR"}, "state-dir", "directory in which runs are to be recorded")
	g.on(&strict, "strict-state-dir", "",
		"say no when another user can replace the state directory, through a parent of it")
	g.Var(enumValue[logFormat]{&format, "FORM", "form of output", logFormats}, "format", "form of output: text, json")
	describe(c, []flagGroup{g, environmentGroup("graceful doctor --no-env --state-dir /var/lib/graceful")})
	return c
}

// promises says what each check is about.
var promises = map[string]string{
	runner.CheckTree:      "all that the program starts ends with it",
	runner.CheckCgroup:    "other users' processes end with it too, in one step (--contain cgroup)",
	runner.CheckPids:      "no signal reaches somebody else who has got a number since",
	runner.CheckGuard:     "when graceful is killed, the tree is ended and cleanup commands run",
	runner.CheckProcesses: "there are threads and processes enough for a run",
	runner.CheckShell:     "cleanup commands may be in shell form",
	runner.CheckSocket:    "programs can register cleanup commands (graceful defer)",
	runner.CheckSignals:   "the program finds those signals ignored and blocked that graceful found so",
	runner.CheckState:     "when all of graceful is killed, recover finishes the run",
	runner.CheckParent:    "the death of the process that started graceful can stop a run (--die-with-parent)",
	runner.CheckTerminal:  "the program can read from the terminal",
}

// broken lists the promises that are made by default, or asked for, and hold so.
func broken(f runner.Findings, holds runner.Holds) (names []string) {
	for _, c := range f.Checks {
		if c.Required && c.Holds == holds {
			names = append(names, c.Name)
		}
	}
	return names
}

func findingsText(f runner.Findings) string {
	var b strings.Builder
	width := 0
	for _, c := range f.Checks {
		width = max(width, len(c.Name))
	}
	for _, c := range f.Checks {
		mark := map[runner.Holds]string{runner.Yes: "ok", runner.Partly: "part", runner.No: "no"}[c.Holds]
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
		fmt.Fprintf(&b, "%-40s  %-24s  %s\n", events[e.Event], treeFates[e.Tree], cleanupFates[e.Cleanup])
	}
	b.WriteByte('\n')
	no, partly := broken(f, runner.No), broken(f, runner.Partly)
	switch {
	case len(no) > 0:
		fmt.Fprintf(&b, "what is promised does not all hold here: %s\n", strings.Join(slices.Concat(no, partly), ", "))
	case len(partly) > 0:
		fmt.Fprintf(&b, "what is promised holds here, with exceptions: %s\n", strings.Join(partly, ", "))
	default:
		b.WriteString("what is promised holds here\n")
	}
	return b.String()
}

var (
	events = map[string]string{
		runner.TargetEnds:       "the program ends, or is killed",
		runner.FrontKilled:      "the graceful that you started is killed",
		runner.SupervisorKilled: "its second process is killed",
		runner.AllKilled:        "all of graceful is killed",
		runner.ContainerKilled:  "the container or cgroup is killed",
		runner.MachineStops:     "the machine stops",
	}
	treeFates = map[string]string{
		runner.TreeEnded:     "is ended",
		runner.TreeGroup:     "its process group is ended",
		runner.TreeGone:      "is gone with it",
		runner.TreeLeft:      "lives on",
		runner.TreeRecovered: "is ended by recover",
	}
	cleanupFates = map[string]string{
		runner.CleanupRun:       "run once",
		runner.CleanupRecovered: "run once, by recover",
		runner.CleanupLost:      "are lost",
	}
)

// What doctor --format json writes: docs/doctor.schema.json.
type (
	findingsJSON struct {
		Version    string       `json:"version"`
		System     systemJSON   `json:"system"`
		Checks     []checkJSON  `json:"checks"`
		Guarantees []fateJSON   `json:"guarantees"`
		Holds      runner.Holds `json:"holds"`
	}
	systemJSON struct {
		OS     string `json:"os"`
		Arch   string `json:"arch"`
		Kernel string `json:"kernel"`
		UID    int    `json:"uid"`
		PID    int    `json:"pid"`
		Parent int    `json:"parent"`
	}
	checkJSON struct {
		Name     string       `json:"name"`
		Promise  string       `json:"promise"`
		Required bool         `json:"required"`
		Holds    runner.Holds `json:"holds"`
		Detail   string       `json:"detail"`
		Why      string       `json:"why"`
		Hint     string       `json:"hint"`
	}
	fateJSON struct {
		When    string `json:"when"`
		Tree    string `json:"tree"`
		Cleanup string `json:"cleanup"`
	}
)

func writeJSON(to io.Writer, f runner.Findings) error {
	info := "unknown"
	if build, ok := debug.ReadBuildInfo(); ok {
		info = describeBuild(build)
	}
	out := findingsJSON{Version: info, System: systemJSON(f.System), Holds: runner.Yes}
	for _, c := range f.Checks {
		out.Checks = append(out.Checks, checkJSON{c.Name, promises[c.Name], c.Required, c.Holds, c.Detail, c.Why, c.Hint})
	}
	for _, e := range f.Survival {
		out.Guarantees = append(out.Guarantees, fateJSON{e.Event, e.Tree, e.Cleanup})
	}
	switch {
	case len(broken(f, runner.No)) > 0:
		out.Holds = runner.No
	case len(broken(f, runner.Partly)) > 0:
		out.Holds = runner.Partly
	}
	enc := json.NewEncoder(to)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
