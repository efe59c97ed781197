package doctor

import "graceful/runner/tree"

// Fate is the effect of an event on the tree and on the cleanup commands of a run.
type Fate struct {
	When    string `json:"when"`
	Tree    string `json:"tree"`
	Cleanup string `json:"cleanup"`
}

// Events that a run may meet.
const (
	TargetEnds      = "target-ends"      // it exits, or a process of its tree is killed
	GracefulKilled  = "graceful-killed"  // the process that the user started, or its successor
	GuardKilled     = "guard-killed"     // before an end of graceful
	AllKilled       = "all-killed"       // both at the same time
	ContainerKilled = "container-killed" // or another cgroup
	MachineStops    = "machine-stops"
)

// Effects on the tree.
const (
	TreeEnded     = "ended"       // graceful ends it
	TreeGoesOn    = "goes-on"     // it is not affected
	TreeGroup     = "group-ended" // graceful ends its process group, and does not find the other members
	TreeGone      = "gone"        // the event itself ends it
	TreeLeft      = "left"        // it stays alive
	TreeRecovered = "recovered"   // graceful recover ends it
)

// Effects on the cleanup commands.
const (
	CleanupRun       = "run"
	CleanupRecovered = "recovered" // graceful recover runs them
	CleanupLost      = "lost"
)

// survival derives the fate for each event. init means that graceful is PID 1, and guard that a run has a guard.
func survival(init bool, held containment, guard bool, state stateCheck) []Fate {
	ended := TreeEnded
	if held.level != tree.Subreaper {
		ended = TreeGroup
	}
	fates := []Fate{{TargetEnds, ended, CleanupRun}}
	if guard {
		fates = append(fates, Fate{GracefulKilled, ended, CleanupRun}, Fate{GuardKilled, TreeGoesOn, CleanupRun})
	}
	later := CleanupLost
	if state.Holds != No && state.lasts {
		later = CleanupRecovered
	}
	all := Fate{AllKilled, TreeLeft, CleanupLost}
	switch {
	case init:
		all = Fate{AllKilled, TreeGone, later}
	case state.Holds != No && held.level == tree.Subreaper && held.sight.Proc:
		all = Fate{AllKilled, TreeRecovered, CleanupRecovered}
	}
	return append(fates, all, Fate{ContainerKilled, TreeGone, later}, Fate{MachineStops, TreeGone, later})
}
