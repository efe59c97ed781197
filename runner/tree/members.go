package tree

import (
	"slices"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// maxPasses is the maximum number of times that one call scans a changing tree for members. Only SIGKILL can handle
// members that fork faster than these scans.
const maxPasses = 16

// Members lists the live members, as far as /proc shows them. The tree may change during the call, so an empty list
// does not prove that no member is left. Empty reports whether no member is left.
func (t *Tree) Members() []procfs.Process {
	t.excludeKept()
	switch {
	case t.level == Group && t.targetGroup == 0:
		return nil
	case t.level == Group:
		return slices.DeleteFunc(t.proc.All(), func(p procfs.Process) bool { return p.Dead || p.Group != t.targetGroup })
	}
	found := t.proc.Descendants(t.root, t.excluded)
	if t.hasOwn() {
		found = append(found, t.proc.Descendants(t.self, t.notOwn())...)
	}
	for _, root := range t.orphanRoots() {
		found = append(found, root)
		if t.orphans.group == 0 {
			found = append(found, t.proc.Descendants(root.PID, nil)...)
		}
	}
	inCgroup, _ := t.cgroupMembers()
	for _, pid := range inCgroup {
		if p, ok := t.proc.Read(pid); ok && !p.Dead {
			found = append(found, p)
		}
	}
	if t.orphans != nil || t.cgroup != "" { // several ways may find the same process
		seen := map[procfs.Identity]bool{}
		found = slices.DeleteFunc(found, func(p procfs.Process) (again bool) {
			again, seen[p.Identity] = seen[p.Identity], true
			return again
		})
	}
	return found
}

// Suspended reports whether a process is suspended by a signal. Without /proc, Suspended returns true.
func (t *Tree) Suspended(pid int) bool {
	if t.proc == nil {
		return true
	}
	p, ok := t.proc.Read(pid)
	return ok && p.Suspended
}

// UserOf returns the real user id of a process, or -1 if the user is unknown.
func (t *Tree) UserOf(pid int) int { return t.proc.UserOf(pid) }

// Find returns the process with a pid, dead or alive, if the process descends from the root, and neither the process
// nor an ancestor is excluded. At level Group it also returns each process of the target's group. For other processes,
// Find returns false, even if they are members by a mark of OpenOrphaned or by the cgroup.
func (t *Tree) Find(pid int) (procfs.Process, bool) {
	for range maxPasses { // the end of an ancestor may break the path up to the root, so try again
		p, ok := t.proc.Read(pid)
		if !ok || t.level == Group && p.Group == t.targetGroup && t.targetGroup != 0 {
			return p, ok
		}
		for q := p; ok; q, ok = t.proc.Read(q.PPID) {
			if t.isExcluded(q.PID) || q.PID == t.root || q.PPID == 0 {
				return procfs.Process{}, false
			}
			if q.PPID == t.root {
				return p, true
			}
		}
	}
	return procfs.Process{}, false
}

// Children lists the children of the root, dead or alive, except the excluded ones. A child that /proc hides has the
// name "hidden" and no start time.
func (t *Tree) Children() (found []procfs.Process) {
	t.excludeKept()
	for _, pid := range t.childPIDs() {
		p, ok := t.proc.Read(pid)
		if !ok { // hidepid hides the child, or the guard has just reaped it
			p = hiddenProcess(pid, t.root)
		}
		found = append(found, p)
	}
	return found
}

// Empty reports whether no member is left. noChildren means that wait(2) has found no child of the root, dead or alive.
// At level Subreaper, noChildren proves that the root has no descendant left, because a process that outlives its
// parent is reparented to the root before the parent can be reaped. If noChildren is false, or if members need not
// descend from the root, Empty returns false while IsLate is true.
func (t *Tree) Empty(noChildren bool) bool {
	decides := noChildren && t.ReportsEnds() // sufficient, even if a scan of /proc missed processes
	return t.seemsEmpty(noChildren) && (decides || !t.proc.IsLate())
}

func (t *Tree) seemsEmpty(noChildren bool) bool {
	t.excludeKept()
	t.leftInCgroup = false
	// Check the children once. If the last child ended between two checks, the cgroup would not be checked.
	childless := (t.cgroup != "" || t.orphans != nil || t.level == Subreaper) && t.childless(noChildren)
	switch {
	case t.cgroup != "" && childless && t.cgroup.populated():
		t.leftInCgroup = true
		return false
	case t.orphans != nil:
		// Scan twice, because one scan may miss a process that forks and ends.
		return childless && len(t.Members()) == 0 && len(t.Members()) == 0
	case t.level == Subreaper:
		return childless
	}
	if t.targetUnreaped {
		return false
	}
	// Forget the group when it is empty, because the kernel may reuse its id.
	if t.targetGroup != 0 && t.proc == nil && unix.Kill(-t.targetGroup, 0) == unix.ESRCH ||
		t.proc != nil && len(t.Members()) == 0 && !t.proc.IsLate() {
		t.targetGroup = 0
	}
	return t.targetGroup == 0
}

// ReportsEnds reports whether the tree can become empty only by the end of a child of the root, which graceful notices.
// Otherwise the caller must poll Empty.
func (t *Tree) ReportsEnds() bool {
	return t.level == Subreaper && t.orphans == nil && !t.leftInCgroup
}

// childless reports whether the root has no child, dead or alive, except the excluded ones. noChildren has the meaning
// as in Empty. If hasOwn is true, graceful itself must not have such a child either.
func (t *Tree) childless(noChildren bool) bool {
	switch {
	case t.proc == nil:
		return noChildren
	case noChildren:
	case len(t.excluded) == 0 || len(t.childPIDs()) > 0:
		return false
	}
	notOwn := t.notOwn()
	return !t.hasOwn() || !slices.ContainsFunc(t.proc.Children(t.self), func(pid int) bool {
		return !slices.Contains(notOwn, pid)
	})
}

// cgroupMembers lists the pids in the cgroup, except graceful, the root and the excluded ones. It moves graceful and
// the root out of the cgroup. ours means that one of these two is still in the cgroup, so that killing the cgroup would
// kill that process.
func (t *Tree) cgroupMembers() (pids []int, ours bool) {
	if t.cgroup == "" {
		return nil, false
	}
	isOurs := func(pid int) bool { return pid == t.self || pid == t.root }
	pids = t.cgroup.pids()
	if slices.ContainsFunc(pids, isOurs) {
		t.cgroup.moveOut(slices.DeleteFunc(pids, func(pid int) bool { return !isOurs(pid) }))
		pids = t.cgroup.pids()
	}
	ours = slices.ContainsFunc(pids, isOurs)
	return slices.DeleteFunc(pids, func(pid int) bool { return isOurs(pid) || t.isExcluded(pid) }), ours
}

// hiddenProcess describes a process that exists but that /proc does not show (hidepid). The start time in the result is
// 0.
func hiddenProcess(pid, parent int) procfs.Process {
	return procfs.Process{Identity: procfs.Identity{PID: pid}, PPID: parent, Name: "hidden"}
}
