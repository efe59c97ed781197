package doctor

import (
	"fmt"
	"testing"

	"graceful/runner/tree"
)

// survival returns the fates that the table in docs/guarantees.md promises.
func TestSurvival(t *testing.T) {
	found := containment{level: tree.Subreaper, sight: tree.Sight{Proc: true}}
	noProc := containment{level: tree.Group}
	pid1NoProc := containment{level: tree.Subreaper}
	disk := stateCheck{Check{Holds: Yes}, true}
	memory := stateCheck{Check{Holds: Partly}, false}
	none := stateCheck{Check{Holds: No}, true}
	for _, c := range []struct {
		name        string
		init        bool
		held        containment
		guard       bool
		state       stateCheck
		either      string // fate if graceful is killed; "": there is no guard
		all, reboot string // fates if graceful and its guard are killed, and if the container or the machine ends
	}{
		{"by default", false, found, true, none, "ended run", "left lost", "gone lost"},
		{"with a state directory", false, found, true, disk, "ended run", "recovered recovered", "gone recovered"},
		{"with a state directory in memory", false, found, true, memory, "ended run", "recovered recovered", "gone lost"},
		{"without a guard", false, found, false, none, "", "left lost", "gone lost"},
		{"as PID 1", true, found, false, none, "", "gone lost", "gone lost"},
		{"as PID 1 with a state directory", true, pid1NoProc, false, disk, "", "gone recovered", "gone recovered"},
		{"without /proc", false, noProc, true, disk, "group-ended run", "left lost", "gone recovered"},
	} {
		t.Run(c.name, func(t *testing.T) {
			have := map[string]string{}
			for _, f := range survival(c.init, c.held, c.guard, c.state) {
				have[f.When] = f.Tree + " " + f.Cleanup
			}
			want := map[string]string{
				TargetEnds: "ended run", AllKilled: c.all, ContainerKilled: c.reboot, MachineStops: c.reboot,
			}
			if c.held.level == tree.Group {
				want[TargetEnds] = "group-ended run"
			}
			if c.either != "" {
				want[GracefulKilled], want[GuardKilled] = c.either, "goes-on run"
			}
			if fmt.Sprint(have) != fmt.Sprint(want) {
				t.Errorf("survival is %v\nwant        %v", have, want)
			}
		})
	}
}
