package tree

import (
	"slices"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// isInit reports whether graceful is PID 1 and the level is Subreaper. The kernel ends the PID namespace (usually a
// container) with PID 1. So graceful's children from before Open, and all orphans of the namespace, are members.
// Processes that entered the namespace from outside are not members.
func (t *Tree) isInit() bool { return t.self == 1 && t.level == Subreaper }

// hasOwn reports whether children of graceful itself are members, in addition to children of the root. That is so if
// graceful is PID 1, the root is the guard, and /proc can be read.
func (t *Tree) hasOwn() bool { return t.isInit() && t.root != t.self && t.proc != nil }

// notOwn lists the pids of graceful's children that are not members in the sense of hasOwn: the excluded ones and the
// root.
func (t *Tree) notOwn() []int { return append(slices.Clone(t.excluded), t.root) }

// SignalOutsiders sends SIGHUP, SIGTERM and SIGCONT to the processes that entered the PID namespace from outside, for
// example by docker exec, and to their descendants. /proc shows 0 as the parent of the uppermost ancestor of such a
// process. SignalOutsiders has an effect only if graceful is PID 1, at level Subreaper and with /proc.
func (t *Tree) SignalOutsiders() {
	if !t.isInit() || t.proc == nil {
		return
	}
	byPID := map[int]procfs.Process{}
	all := t.proc.All()
	for _, p := range all {
		byPID[p.PID] = p
	}
	for _, p := range all {
		top, steps := p, 0
		for parent, known := byPID[top.PPID]; known && steps < len(all); parent, known = byPID[top.PPID] {
			top, steps = parent, steps+1
		}
		if top.PID != t.self && top.PPID == 0 && !p.Dead && !p.IsKernelThread() {
			for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGTERM, unix.SIGCONT} {
				_ = t.signal(p, sig)
			}
		}
	}
}
