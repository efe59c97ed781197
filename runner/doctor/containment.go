package doctor

import (
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/runner"
	"graceful/runner/tree"
)

// containment is the result for the tree, with the level and the sight that a run would have.
type containment struct {
	Check
	level tree.Level
	sight tree.Sight
}

func examineTree() containment {
	held := containment{Check: Check{Name: CheckTree, Required: true, Holds: Yes}}
	t, warnings, err := tree.Open(tree.Auto)
	if err != nil {
		held.lower(No, err.Error(), "")
		return held
	}
	held.level, held.sight = t.Level(), t.Sight()
	found := []string{"level " + string(held.level)}
	if unix.Getpid() == 1 {
		found = append(found, "as PID 1")
	}
	hint := "mount -t proc proc /proc, in this PID namespace"
	if runtime.GOOS != "linux" {
		hint = "use Linux, for instance in a container or a virtual machine"
	}
	for _, w := range warnings {
		held.lower(No, w, hint)
	}
	if held.sight.Proc && !held.sight.ChildrenListed {
		found = append(found, "graceful finds children by reading all of /proc (the kernel has no CONFIG_PROC_CHILDREN)")
	}
	if held.sight.Proc && !held.sight.OtherUsers {
		held.lower(Partly,
			"/proc hides the processes of other users: what sudo or a set-user-ID program starts may be overlooked",
			"mount -o remount,hidepid=0 /proc")
	}
	held.Detail = strings.Join(found, ", ")
	return held
}

// examineCgroup tries a run in a cgroup, because only such a trial shows whether graceful may create one.
func examineCgroup(c *Check) {
	c.Detail = "a run was tried in one"
	if err := tryRun(tree.Cgroup, runner.GuardOff); err != nil {
		c.lower(No, err.Error(), "")
	}
}

func examinePids(c *Check) {
	if err := tree.CheckPidfds(); err != nil {
		c.lower(Partly, err.Error(), "")
		return
	}
	c.Detail = "processes are pinned before they are signalled (pidfd)"
}

// examineUsers checks whether graceful may signal a target that has changed to another user (kill(2)).
func examineUsers(c *Check) {
	if uid := unix.Geteuid(); uid != 0 {
		c.Detail = fmt.Sprintf("those of user %d: a target that becomes another one, as by sudo, is given up in the end", uid)
	} else if !mayKill() {
		c.lower(No, "graceful has no CAP_KILL: a target that becomes another user is given up in the end",
			"docker run --cap-add KILL")
	}
}

// recoverHint is the hint for a place where all processes end when graceful is killed.
const recoverHint = "--state-dir on a volume, and graceful recover or the next run of the name there"

// examineGuard tries a run with a guard, unless a run has no guard by default. If there is no guard by default, or if
// that run fails, examineGuard tries a run without a guard.
func examineGuard(held containment) (guard, processes Check) {
	guard = Check{Name: CheckGuard, Required: true, Holds: Yes}
	processes = Check{Name: CheckProcesses, Required: true, Holds: Yes, Detail: strings.Join(limits(), ", ")}
	hint := "see ulimit -a and the limits of the container"
	switch {
	case held.Holds == No: // here only the hint of CheckTree helps
		hint = ""
	case processes.Detail != "":
		hint = "limits are " + processes.Detail
	}
	level := held.level
	if level == tree.Subreaper && !held.sight.Proc { // without /proc only PID 1 has this level: the tried run is not PID 1
		level = tree.Group
	}
	if !runner.GuardByDefault() {
		guard.lower(Partly, "as PID 1 it has no guard, the kernel ends the tree, and cleanup commands are lost", recoverHint)
	} else if err := tryRun(level, runner.GuardOn); err != nil {
		guard.lower(No, "a run with it was tried: "+err.Error(), hint)
	} else {
		guard.Detail = "a run was tried with it"
		if why := endsWithGraceful(); why != "" {
			guard.lower(Partly, why+", and cleanup commands are lost", recoverHint)
		}
		return guard, processes
	}
	if err := tryRun(level, runner.GuardOff); err != nil {
		processes.lower(No, "a run was tried: "+err.Error(), hint)
	}
	return guard, processes
}
