package doctor

import "graceful/runner/tree"

// Fate is the effect of an event on the tree or on the cleanup commands of a run.
type Fate struct {
	When    string `json:"when"`
	Tree    string `json:"tree"`
	Cleanup string `json:"cleanup"`
}

// The events that may happen to a run.
const (
	TargetEnds      = "target-ends"      // the target exits, or a process of the tree is killed
	GracefulKilled  = "graceful-killed"  // the process that the user started, or its successor, is killed
	GuardKilled     = "guard-killed"     // the guard is killed before graceful ends
	AllKilled       = "all-killed"       // graceful and its guard, if any, are killed at the same time
	ContainerKilled = "container-killed" // the container or another cgroup is killed
	MachineStops    = "machine-stops"
)

// The effects on the tree.
const (
	TreeEnded     = "ended"       // graceful ends the tree
	TreeGoesOn    = "goes-on"     // the tree is not affected
	TreeGroup     = "group-ended" // graceful ends the process group, and does not find the other members
	TreeGone      = "gone"        // the event itself ends the tree
	TreeLeft      = "left"        // the tree stays alive
	TreeRecovered = "recovered"   // graceful recover ends the tree
)

// The effects on the cleanup commands.
const (
	CleanupRun       = "run"
	CleanupRecovered = "recovered" // graceful recover runs them
	CleanupLost      = "lost"
)

// survival returns what happens to the tree and to the cleanup commands at each event. init means that graceful is PID
// 1. guard means that the run has a guard; otherwise the events GracefulKilled and GuardKilled are missing.
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
	if state.Holds != No && state.durable {
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
