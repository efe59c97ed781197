// Package doctor finds out which guarantees of graceful run hold on this machine, for this user, in this place. It
// performs the steps of a run itself, so that it has the same results as a run. It never changes anything that a run
// would use.
package doctor

import (
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Holds is the degree to which a guarantee holds.
type Holds string

// The degrees. Partly means that the guarantee holds with exceptions.
const (
	Yes    Holds = "yes"
	Partly Holds = "partly"
	No     Holds = "no"
)

// Check is the result for one guarantee.
type Check struct {
	Name     string `json:"name"`
	Required bool   `json:"required"` // graceful gives the guarantee by default, or a flag of graceful doctor asks for it
	Holds    Holds  `json:"holds"`
	Detail   string `json:"detail"` // result of the check, for people
	Why      string `json:"why"`    // why Holds is not Yes; "": Holds is Yes
	Hint     string `json:"hint"`   // what to do about the reason in Why; "": unknown
}

// The names of the checks.
const (
	CheckTree      = "tree"
	CheckCgroup    = "cgroup"
	CheckPids      = "pids"
	CheckUsers     = "users"
	CheckGuard     = "guard"
	CheckProcesses = "processes"
	CheckShell     = "shell"
	CheckSocket    = "socket"
	CheckSignals   = "signals"
	CheckState     = "state-directory"
	CheckParent    = "parent"
	CheckTerminal  = "terminal"
)

// examined returns the result of a check. The result is Yes unless examine lowers it.
func examined(name string, required bool, examine func(*Check)) Check {
	c := Check{Name: name, Required: required, Holds: Yes}
	examine(&c)
	return c
}

// lower reduces Holds to No or Partly, and never raises it. It appends the reason and the hint, if any, to those of c.
func (c *Check) lower(to Holds, why, hint string) {
	if c.Holds != No {
		c.Holds = to
	}
	c.Why = strings.TrimPrefix(c.Why+"; "+why, "; ")
	if hint != "" {
		c.Hint = strings.TrimPrefix(c.Hint+"; "+hint, "; ")
	}
}

// System describes the place that was examined.
type System struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel"` // release of the kernel; "": unknown
	UID    int    `json:"uid"`    // effective user id
	PID    int    `json:"pid"`    // pid of graceful doctor
	Parent int    `json:"parent"` // pid of the parent of graceful doctor; 0: outside of the PID namespace
}

func thisSystem() System {
	var name unix.Utsname
	_ = unix.Uname(&name) // if the call fails, name stays empty
	return System{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: unix.ByteSliceToString(name.Release[:]),
		UID: unix.Geteuid(), PID: unix.Getpid(), Parent: unix.Getppid(),
	}
}

// Findings are the results of Examine.
type Findings struct {
	System   System
	Checks   []Check
	Survival []Fate
}

// Examine finds out which guarantees hold here. It examines the state directory unless stateDir is empty. With strict,
// a parent of that directory through which another user can replace it breaks the guarantee. When Examine returns,
// every process that it has started has ended, unless a tried run has exceeded tryLimit.
func Examine(stateDir string, strict bool) Findings {
	held := examineTree()
	guard, processes := examineGuard(held)
	f := Findings{
		System: thisSystem(),
		Checks: []Check{
			held.Check, examined(CheckCgroup, false, examineCgroup), examined(CheckPids, true, examinePids),
			examined(CheckUsers, false, examineUsers), guard, processes, examined(CheckShell, false, examineShell),
			examined(CheckSocket, true, examineSocket), examined(CheckSignals, true, examineSignals),
		},
	}
	state := stateCheck{Check: Check{Holds: No}}
	if stateDir != "" {
		state = examineState(stateDir, strict)
		f.Checks = append(f.Checks, state.Check)
	}
	f.Checks = append(f.Checks,
		examined(CheckParent, false, examineParent), examined(CheckTerminal, false, examineTerminal))
	f.Survival = survival(unix.Getpid() == 1, held, guard.Holds == Yes, state)
	return f
}
