package doctor

import "graceful/runner/tree"

// Fate is what becomes of a tree and of the cleanup commands when something happens to a run.
type Fate struct {
	When    string `json:"when"`
	Tree    string `json:"tree"`
	Cleanup string `json:"cleanup"`
}

// What can happen to a run.
const (
	TargetEnds      = "target-ends"      // it exits, or a process of its tree is killed
	GracefulKilled  = "graceful-killed"  // the process that the user started, or a later one of the same run
	GuardKilled     = "guard-killed"     // before that
	AllKilled       = "all-killed"       // both at the same time
	ContainerKilled = "container-killed" // or another cgroup
	MachineStops    = "machine-stops"
)

// What becomes of the tree.
const (
	TreeEnded     = "ended"       // graceful ends it
	TreeGoesOn    = "goes-on"     // as if nothing had happened
	TreeGroup     = "group-ended" // graceful ends its process group, and does not find the rest
	TreeGone      = "gone"        // the event itself ends it
	TreeLeft      = "left"        // it lives on
	TreeRecovered = "recovered"   // graceful recover ends it
)

// What becomes of the cleanup commands.
const (
	CleanupRun       = "run"
	CleanupRecovered = "recovered" // graceful recover runs them
	CleanupLost      = "lost"
)

// survival derives the fate for each event. init: graceful is PID 1. guard: a run has one.
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
