// Package tree finds, signals and empties the process tree of a run, at each level of containment. It decides nothing:
// it does what the caller asks.
package tree

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// Level selects how graceful finds and contains the members of a run.
type Level string

// The levels. Auto means Subreaper if this machine can support it, and else Group. Cgroup means Subreaper plus a
// cgroup. Auto never selects Cgroup, because a cgroup needs privileges and leaves a trace in the file system.
const (
	Auto      Level = "auto"
	Subreaper Level = "subreaper"
	Group     Level = "group"
	Cgroup    Level = "cgroup"
)

// Levels returns all levels, the default first.
func Levels() []Level { return []Level{Auto, Subreaper, Group, Cgroup} }

// Tree is the process tree of a run. At level Subreaper, its members are the descendants of the root, except the
// excluded ones. In addition, the processes that OpenOrphaned describes, the processes in the cgroup of the run, and
// the children that hasOwn describes are members. At level Group the members are the processes of the target's group.
type Tree struct {
	level Level
	self  int        // graceful's pid
	root  int        // the ancestor of the members: graceful or the guard
	proc  *procfs.FS // nil: /proc is missing or shows another PID namespace

	excluded       []int             // pids of processes that are not members, nor are their descendants
	exempt         []int             // the part of excluded that Exempt has added
	keptChildren   []procfs.Identity // the children that excludeKept has excluded
	memberVariable string            // only children with this variable are members, see Keep; "": all children

	targetGroup    int  // the target's process group; 0: none, or empty
	targetUnreaped bool // the target is not reaped, so the kernel does not reuse the target's pid as a pid or a group's id

	orphans *orphanSpec // not nil: graceful is not an ancestor of the tree, see OpenOrphaned

	cgroup         cgroup // "": none
	leftInCgroup   bool   // the last call of Empty found no child of the root, but a process in the cgroup
	killedInCgroup []int  // pids that were in the cgroup when Kill killed it

	signalled   map[procfs.Identity]bool // members handled since the last Signal or SignalRest began; nil: none yet
	skip        skipFunc                 // the condition by which the last Signal or SignalRest skipped members; nil: none
	stopSignals stopSignals              // the stop signals that were sent
}

// Open prepares containment at a level, and returns the tree and warnings. If this machine cannot support level
// Subreaper, Auto falls back to Group with a warning, and Subreaper and Cgroup return an error. For lack of
// descriptors, Auto also returns an error. Open excludes the children that graceful already has, because a shell may
// start jobs and then execute graceful. If graceful is PID 1 at level Subreaper, these children are members, because
// they end with graceful.
func Open(level Level) (*Tree, []string, error) {
	proc, procErr := procfs.Open()
	t := &Tree{level: level, self: unix.Getpid(), root: unix.Getpid(), proc: proc}
	var warnings []string
	if level != Group {
		err := AdoptOrphans()
		if err == nil && t.proc == nil && (t.self != 1 || level == Cgroup) {
			err = errors.New("/proc is missing or shows another PID namespace, so that descendants cannot be found")
		}
		t.level = Subreaper
		if errors.Is(procErr, unix.EMFILE) || errors.Is(procErr, unix.ENFILE) { // /proc may exist
			return nil, nil, fmt.Errorf("opening /proc: %w", procErr)
		}
		if err != nil && level != Auto {
			return nil, nil, err
		}
		if err != nil {
			t.level = Group
			warnings = append(warnings, err.Error())
		}
	}
	if hasChildren() && !t.isInit() {
		t.excluded = t.proc.Children(t.self)
	}
	return t, warnings, nil
}

// SetRoot sets the root: the process that is the ancestor of the members and reaps them. The root is the guard, or
// graceful again. Graceful itself is not a member, even if it is a child of the guard. A pid of at most 1 stands for
// graceful. PID 1 is never a guard, because all other processes descend from PID 1.
func (t *Tree) SetRoot(pid int) {
	if pid <= 1 {
		pid = t.self
	}
	if t.root = pid; pid == t.self {
		return
	}
	t.excluded = append(t.excluded, t.self)
	if t.proc != nil {
		t.proc.SetBusy(pid)
	}
}

// Level returns the level in force, which is Subreaper or Group. In addition, the run may have a cgroup: see
// MakeCgroup.
func (t *Tree) Level() Level { return t.level }

// Confine sets the directory of the cgroup that the target may run in. The directory need not exist. "" means none.
func (t *Tree) Confine(dir string) { t.cgroup = cgroup(dir) }

// MakeCgroup makes the cgroup whose directory is dir, for the target, and sets dir as Confine does. If dir is "", it
// makes none.
func (t *Tree) MakeCgroup(dir string) error {
	t.Confine(dir)
	if dir == "" {
		return nil
	}
	return t.cgroup.make()
}

// Disband moves the remaining processes of the cgroup to the parent cgroup, and removes the cgroup. Without a cgroup,
// Disband does nothing.
func (t *Tree) Disband() error {
	c := t.cgroup
	if t.cgroup, t.killedInCgroup = "", nil; c == "" {
		return nil
	}
	return c.disband()
}

// SetTarget sets the target: an unreaped child of the root that leads its own process group.
func (t *Tree) SetTarget(pid int) { t.targetGroup, t.targetUnreaped = pid, true }

// Leader returns the target's pid, or 0 if there is no target, after the target is reaped, and after Keep.
func (t *Tree) Leader() int {
	if !t.targetUnreaped {
		return 0
	}
	return t.targetGroup
}

// NoteReaped records that a child is reaped. From then on its pid may belong to another process.
func (t *Tree) NoteReaped(pid int) {
	if pid == t.targetGroup {
		t.targetUnreaped = false
	}
	for _, list := range []*[]int{&t.excluded, &t.exempt} {
		*list = slices.DeleteFunc(*list, func(p int) bool { return p == pid })
	}
}

// Exempt excludes a child of the root, with its descendants, until the child is reaped.
func (t *Tree) Exempt(pid int) {
	t.excluded, t.exempt = append(t.excluded, pid), append(t.exempt, pid)
}

// Keep excludes the live children of the root whose environment does not contain the variable, and their descendants.
// They survive the run. From then on, a new child of the root is a member only with the variable.
func (t *Tree) Keep(variable string) {
	t.memberVariable, t.targetGroup, t.targetUnreaped = variable, 0, false
	t.excludeKept()
}

// HasKept reports whether Keep was called.
func (t *Tree) HasKept() bool { return t.memberVariable != "" }

// excludeKept excludes the live children of the root that do not have the variable of Keep. Before Keep, it does
// nothing. A zombie has no environment. A zombie remains a member, so that it is reaped. excludeKept also ends the
// exclusion of a pid that another process has reused.
func (t *Tree) excludeKept() {
	if t.memberVariable == "" {
		return
	}
	t.keptChildren = slices.DeleteFunc(t.keptChildren, func(id procfs.Identity) bool {
		p, ok := t.proc.Read(id.PID)
		isOther := ok && p.Identity != id
		if isOther {
			t.NoteReaped(id.PID)
		}
		return isOther
	})
	children := t.childPIDs()
	members := t.proc.Environs(children, t.memberVariable)
	for _, pid := range children {
		if _, ok := members[pid]; ok {
			continue
		}
		// Check now whether the child is dead. If it is not, it was alive when its environment was read. A child that
		// /proc hides counts as alive.
		p, ok := t.proc.Read(pid)
		if !ok || !p.Dead {
			t.excluded = append(t.excluded, pid)
		}
		if ok && !p.Dead {
			t.keptChildren = append(t.keptChildren, p.Identity)
		}
	}
}

// childPIDs lists the children of the root, dead or alive, except the excluded ones.
func (t *Tree) childPIDs() []int { return slices.DeleteFunc(t.proc.Children(t.root), t.isExcluded) }

// Adopted lists the children of the root that may be adopted orphans, dead or alive, except the excluded ones. See
// procfs.FS.Adopted.
func (t *Tree) Adopted() []int { return slices.DeleteFunc(t.proc.Adopted(t.root), t.isExcluded) }

func (t *Tree) isExcluded(pid int) bool { return slices.Contains(t.excluded, pid) }
