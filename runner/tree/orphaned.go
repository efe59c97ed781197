package tree

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"graceful/runner/procfs"
)

// orphanSpec identifies the orphaned members of a dead run.
type orphanSpec struct {
	mark  string            // a variable of their environment, NAME=value
	known []procfs.Identity // members whatever their environment
	since time.Duration     // the boot-time clock when the run began: a process that was born before is not a member
}

// OpenOrphaned is Open for a run whose graceful processes are all dead, so that its members are reparented to init. A
// process is a member if it is known, if it has the variable mark (NAME=value) in its environment, or if it descends
// from a member. It is not a member if it was born before since, a time on the boot-time clock. Processes that graceful
// starts itself are members too.
//
// OpenOrphaned returns an error if graceful descends from a member: it would kill itself.
func OpenOrphaned(mark string, known []procfs.Identity, since time.Duration) (*Tree, error) {
	t, _, err := Open(Subreaper)
	if err == nil && t.proc == nil { // Open accepts that as PID 1
		err = errors.New("/proc is missing or shows another PID namespace")
	}
	if err != nil {
		return nil, err
	}
	t.orphaned = &orphanSpec{mark, known, since}
	for pid := t.self; pid > 0; {
		p, ok := t.proc.Read(pid)
		if ok && t.isOrphanRoot(p) {
			return nil, fmt.Errorf("graceful descends from the run itself (process %d, %s) and would be killed with it",
				pid, p.Name)
		}
		pid = p.PPID
	}
	return t, nil
}

// orphanRoots lists the living processes that match the orphanSpec. Their descendants need not match it.
func (t *Tree) orphanRoots() []procfs.Process {
	if t.orphaned == nil {
		return nil
	}
	exempt := map[int]bool{}
	for _, pid := range t.exempt {
		exempt[pid] = true
		t.proc.Walk(pid, nil, func(pid, _ int) { exempt[pid] = true })
	}
	return slices.DeleteFunc(t.proc.All(), func(p procfs.Process) bool {
		return p.Dead || exempt[p.PID] || t.isExcluded(p.PID) || !t.isOrphanRoot(p) || t.isKept(p.PID)
	})
}

func (t *Tree) isOrphanRoot(p procfs.Process) bool {
	return !p.BornBefore(t.orphaned.since) &&
		(slices.Contains(t.orphaned.known, p.Identity) || t.proc.Marked(p.PID, t.orphaned.mark))
}

// isKept reports whether Keep leaves a process alone.
func (t *Tree) isKept(pid int) bool {
	if t.memberVariable == "" {
		return false
	}
	_, ok := t.proc.Environ(pid, t.memberVariable)
	return !ok
}
