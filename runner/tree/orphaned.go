package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"graceful/runner/procfs"
)

// orphanSpec identifies the members of a dead run. They are orphaned.
type orphanSpec struct {
	mark  string            // a variable in the environment of the members, NAME=value
	known []procfs.Identity // processes that are members, whatever their environment is
	since time.Duration     // time since boot at the beginning of the run; a process that was born before is not a member
	group int               // if not 0, only processes of this group match; -1: none
}

// OpenOrphaned opens the tree of a dead run. The processes of graceful in that run have ended, or no longer have the
// members as descendants. So the members are reparented to init or to another subreaper. These processes are members:
//
//   - those in known;
//   - those whose environment contains the variable mark (NAME=value);
//   - the descendants of a member;
//   - the processes that this graceful starts.
//
// The parameter since is the time since boot at the beginning of the run. A process that was born earlier is no member.
//
// OpenOrphaned returns an error if level Subreaper or /proc is missing. It also returns an error if graceful is a
// member or descends from one, because graceful would kill itself.
func OpenOrphaned(mark string, known []procfs.Identity, since time.Duration) (*Tree, error) {
	t, _, err := Open(Subreaper)
	if err == nil && t.proc == nil { // as PID 1, Open accepts that
		err = errors.New("/proc is missing or shows another PID namespace")
	}
	if err != nil {
		return nil, err
	}
	t.orphans = &orphanSpec{mark: mark, known: known, since: since}
	var ancestors []procfs.Process
	for pid := t.self; pid > 0; {
		p, ok := t.proc.Read(pid)
		if ok {
			ancestors = append(ancestors, p)
		}
		pid = p.PPID
	}
	for _, p := range t.matching(ancestors) {
		return nil, fmt.Errorf("graceful descends from the run itself (process %d, %s) and would be killed with it",
			p.PID, p.Name)
	}
	return t, nil
}

// OnlyGroupOf reduces the tree of OpenOrphaned to the process group that the target leads. If the target does not
// exist, or if its start time is unknown, no orphaned process is a member. OnlyGroupOf does nothing to any other tree.
func (t *Tree) OnlyGroupOf(target procfs.Identity) {
	if t.orphans == nil {
		return
	}
	t.orphans.group = -1
	if p, ok := t.proc.Read(target.PID); ok && p.Identity == target && target.Start != 0 {
		t.orphans.group = target.PID
	}
}

// orphanRoots lists the live processes that match the orphanSpec, except the excluded ones and the descendants of
// exempted ones. After Keep, a process must also have the variable of Keep. Unless orphanSpec.group is set, the
// descendants of the listed processes are also members.
func (t *Tree) orphanRoots() []procfs.Process {
	if t.orphans == nil {
		return nil
	}
	exempt := map[int]bool{}
	for _, pid := range t.exempt {
		exempt[pid] = true
		t.proc.Walk(pid, nil, func(pid, _ int) bool {
			exempt[pid] = true
			return true
		})
	}
	found := slices.DeleteFunc(t.proc.All(), func(p procfs.Process) bool {
		outside := t.orphans.group != 0 && p.Group != t.orphans.group
		return p.Dead || outside || exempt[p.PID] || t.isExcluded(p.PID)
	})
	found = t.matching(found)
	if t.memberVariable == "" {
		return found
	}
	kept := t.proc.Environs(pidsIn(found), t.memberVariable)
	return slices.DeleteFunc(found, func(p procfs.Process) bool {
		_, member := kept[p.PID]
		return !member
	})
}

// matching returns those of the given processes that were not born before the run, and that have the mark or are known.
func (t *Tree) matching(all []procfs.Process) (found []procfs.Process) {
	name, value, _ := strings.Cut(t.orphans.mark, "=")
	all = slices.DeleteFunc(all, func(p procfs.Process) bool { return p.BornBefore(t.orphans.since) })
	values := t.proc.Environs(pidsIn(all), name)
	return slices.DeleteFunc(all, func(p procfs.Process) bool {
		v, ok := values[p.PID]
		return !(ok && v == value) && !slices.Contains(t.orphans.known, p.Identity)
	})
}

func pidsIn(processes []procfs.Process) (pids []int) {
	for _, p := range processes {
		pids = append(pids, p.PID)
	}
	return pids
}
