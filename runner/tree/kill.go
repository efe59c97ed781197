package tree

import (
	"slices"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// Kill sends SIGKILL to every member. found contains the members that were alive. denied contains those of them that
// graceful may not signal (EPERM), except members that cgroup.kill has killed. Kill may miss members that are born
// during the call, and leaves them for the next call. Without /proc, Kill calls signalWithoutProc and returns no
// processes.
func (t *Tree) Kill() (found, denied []procfs.Process) {
	t.excludeKept()
	if t.proc == nil {
		t.signalWithoutProc(unix.SIGKILL)
		return nil, nil
	}
	_ = t.SignalGroup(unix.SIGKILL)
	k := killPass{tree: t, visited: map[int]bool{}}
	if t.level == Group {
		for _, p := range t.Members() {
			k.add(p, t.signal(p, unix.SIGKILL))
		}
		return k.found, k.denied
	}
	inCgroup, ours := t.cgroupMembers()
	if len(inCgroup) > 0 && !ours {
		t.cgroup.kill()
		late, _ := t.cgroupMembers()
		t.killedInCgroup = slices.Concat(t.killedInCgroup, inCgroup, late)
		slices.Sort(t.killedInCgroup)
		t.killedInCgroup = slices.Compact(t.killedInCgroup)
	}
	t.proc.Walk(t.root, t.excluded, k.visit)
	if t.hasOwn() {
		t.proc.Walk(t.self, t.notOwn(), k.visit)
	}
	for _, root := range t.orphanRoots() {
		k.visit(root.PID, root.PPID)
		if t.orphans.group == 0 {
			t.proc.Walk(root.PID, nil, k.visit)
		}
	}
	for _, pid := range inCgroup {
		k.visit(pid, 0)
	}
	// Remove from denied the processes that cgroup.kill has killed, because cgroup.kill also ends processes of other
	// users. Until these processes have ended, Kill finds them, and may not signal them.
	return k.found, slices.DeleteFunc(k.denied, func(p procfs.Process) bool {
		return slices.Contains(t.killedInCgroup, p.PID)
	})
}

// KillGroup does what Kill does, for the target's process group only. After the target is reaped, KillGroup does
// nothing. Without /proc, it kills the group, but returns no processes.
func (t *Tree) KillGroup() (found, denied []procfs.Process) {
	_ = t.SignalGroup(unix.SIGKILL)
	k := killPass{tree: t}
	if t.proc == nil || t.Leader() == 0 {
		return nil, nil
	}
	for _, p := range t.Members() {
		if p.Group == t.targetGroup || p.PID == t.targetGroup {
			k.add(p, t.signal(p, unix.SIGKILL))
		}
	}
	return k.found, k.denied
}

// KillChildren sends SIGKILL to graceful's own children, dead or alive, except the excluded ones. It lists the
// children, but does not read the state of each child. In a tree of many short-lived processes, reading one child takes
// longer than the others need to fork. KillChildren does nothing at level Group, without /proc, or if the root is the
// guard.
func (t *Tree) KillChildren() {
	t.excludeKept()
	if t.level != Subreaper || t.root != t.self {
		return
	}
	for _, pid := range t.childPIDs() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// KillBelow kills pid, the process group that pid leads, and the descendants that pid has at the time of the call. pid
// must be an unreaped child of the root. At level Group, or without /proc, KillBelow kills only the group.
func (t *Tree) KillBelow(pid int) {
	var below []procfs.Process
	if t.level != Group {
		below = t.proc.Descendants(pid, nil) // before the group dies and its children are reparented
	}
	_ = SignalGroupOf(pid, unix.SIGKILL)
	for _, p := range below {
		_ = t.signal(p, unix.SIGKILL)
	}
}

// killPass is one pass of Kill or KillGroup through the tree. found and denied are the results of that call.
type killPass struct {
	tree          *Tree
	visited       map[int]bool // pids that visit has handled
	found, denied []procfs.Process
}

// visit kills the process with a pid. parent is the pid of its parent, or 0 if unknown. The walk visits
// a process before it lists the children. A process with a pending SIGKILL creates no further child, because fork(2)
// restarts while a signal is pending. So the walk misses no child of a process that graceful may signal. descend is
// false for a zombie, which has no children.
//
// visit kills a child of graceful before it reads that child, because a process that forks and ends may live no longer
// than reading takes. The pid is safe, because graceful has not reaped the child.
func (k *killPass) visit(pid, parent int) (descend bool) {
	if k.visited[pid] {
		return true
	}
	k.visited[pid] = true
	var err error
	isChild := parent == k.tree.self
	if isChild {
		err = unix.Kill(pid, unix.SIGKILL)
	}
	p, ok := k.tree.proc.Read(pid)
	if !ok && parent == k.tree.root && !isChild {
		err = unix.Kill(pid, 0)
	}
	if !ok && err == unix.EPERM { // hidepid hides the process
		p, ok = hiddenProcess(pid, parent), true
	}
	if !ok || p.Dead {
		return !ok
	}
	if !isChild {
		err = k.tree.signal(p, unix.SIGKILL)
	}
	k.add(p, err)
	return true
}

// add records a living member. err is the result of its SIGKILL.
func (k *killPass) add(p procfs.Process, err error) {
	k.found = append(k.found, p)
	if err == unix.EPERM {
		k.denied = append(k.denied, p)
	}
}
