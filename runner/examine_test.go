package runner

import (
	"fmt"
	"testing"

	"graceful/runner/tree"
)

// What is said to be survived is what the rows of the README's table say.
func TestWhatIsSurvivedHere(t *testing.T) {
	proc := tree.Sight{Proc: true}
	yes, no, tmpfs := recording{Check{Holds: Yes}, true}, recording{Check{Holds: No}, true}, recording{Check{Holds: Partly}, false}
	for _, c := range []struct {
		name        string
		init        bool
		held        holding
		guard       bool
		state       recording
		either      string // of the two is killed
		all, reboot string
	}{
		{"by default", false, holding{level: tree.Subreaper, sight: proc}, true, no, "ended run", "left lost", "gone lost"},
		{"with a state directory", false, holding{level: tree.Subreaper, sight: proc}, true, yes, "ended run", "recovered recovered", "gone recovered"},
		{"with one in memory", false, holding{level: tree.Subreaper, sight: proc}, true, tmpfs, "ended run", "recovered recovered", "gone lost"},
		{"without a guard", false, holding{level: tree.Subreaper, sight: proc}, false, no, "", "left lost", "gone lost"},
		{"as PID 1", true, holding{level: tree.Subreaper, sight: proc}, false, no, "", "gone lost", "gone lost"},
		{"as PID 1 with a state directory", true, holding{level: tree.Subreaper}, false, yes, "", "gone recovered", "gone recovered"},
		{"without /proc", false, holding{level: tree.Group}, true, yes, "group-ended run", "left lost", "gone recovered"},
	} {
		t.Run(c.name, func(t *testing.T) {
			have := map[string]string{}
			for _, f := range survival(c.init, c.held, c.guard, c.state) {
				have[f.Event] = f.Tree + " " + f.Cleanup
			}
			want := map[string]string{AllKilled: c.all, ContainerKilled: c.reboot, MachineStops: c.reboot, TargetEnds: "ended run"}
			if c.held.level == tree.Group {
				want[TargetEnds] = "group-ended run"
			}
			if c.either != "" {
				want[FrontKilled], want[SupervisorKilled] = c.either, c.either
			}
			if fmt.Sprint(have) != fmt.Sprint(want) {
				t.Errorf("it is %v\nwant  %v", have, want)
			}
		})
	}
}
