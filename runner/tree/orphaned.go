package tree

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"graceful/runner/procfs"
)

// prey is how the members of a tree are known that descends from nobody we know.
type orphanSpec struct {
	mark  string // a variable in their environment, NAME=value
	known []procfs.Identity
	since time.Duration // none is older, see BornBefore
}

// Hunt is Open for a tree whose processes of ours have all been killed, so that its members are init's children now:
// those that are known, those that carry a variable (NAME=value) in their environment, and all that descends from
// them. None was born before a moment, given as the time since the machine was started. What we start ourselves is part
// of the tree too.
func OpenOrphaned(mark string, known []procfs.Identity, since time.Duration) (*Tree, error) {
	t, _, err := Open(Subreaper)
	if err == nil && t.proc == nil { // as PID 1; but others than init's children are looked for here
		err = errors.New("/proc is missing or shows another PID namespace")
	}
	if err != nil {
		return nil, err
	}
	t.orphaned = &orphanSpec{mark, known, since}
	for pid := t.self; pid > 0; {
		p, ok := t.proc.Read(pid)
		if ok && t.isRoot(p) {
			return nil, fmt.Errorf("we descend from it ourselves (by process %d, %s), and would be killed with it", pid, p.Name)
		}
		pid = p.PPID
	}
	return t, nil
}

// roots lists the hunted members. What descends from them need not be among them.
func (t *Tree) roots() []procfs.Process {
	if t.orphaned == nil {
		return nil
	}
	exempt := map[int]bool{}
	for _, pid := range t.exempt {
		exempt[pid] = true
		t.proc.Walk(pid, nil, func(pid, _ int) { exempt[pid] = true })
	}
	return slices.DeleteFunc(t.proc.All(), func(p procfs.Process) bool {
		if p.Dead || exempt[p.PID] || slices.Contains(t.foreign, p.PID) || !t.isRoot(p) {
			return true
		}
		_, ours := t.Environ(p.PID, t.kept)
		return t.kept != "" && !ours
	})
}

func (t *Tree) isRoot(p procfs.Process) bool {
	return !p.BornBefore(t.orphaned.since) && (slices.Contains(t.orphaned.known, p.Identity) || t.proc.Marked(p.PID, t.orphaned.mark))
}

// SignalAll signals a process that need not be our child, and all that descends from it.
func (t *Tree) SignalAll(id procfs.Identity, sig syscall.Signal) {
	p, ok := t.proc.Read(id.PID)
	if !ok || p.Identity != id {
		return
	}
	below := t.proc.Descendants(p.PID, nil)
	_ = t.signal(p, sig)
	for _, p := range below {
		_ = t.signal(p, sig)
	}
}
