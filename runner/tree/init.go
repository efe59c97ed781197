package tree

import (
	"slices"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// If graceful is PID 1, the kernel ends the PID namespace (usually a container) with graceful. So graceful stops all
// processes in the namespace.

// isInit reports whether every process of the PID namespace is a member, except those that entered from outside. That
// is so at level Subreaper if graceful is PID 1.
func (t *Tree) isInit() bool { return t.self == 1 && t.level == Subreaper }

// hasOwn reports whether children of graceful itself are members, in addition to children of the root.
func (t *Tree) hasOwn() bool { return t.isInit() && t.root != t.self && t.proc != nil }

// notOwn lists the children of graceful that are not members.
func (t *Tree) notOwn() []int { return append(slices.Clone(t.excluded), t.root) }

// SignalOutsiders sends SIGHUP and SIGTERM to the processes that entered the PID namespace from outside, for example by
// docker exec. The parent of their uppermost ancestor is 0. SignalOutsiders does nothing unless graceful is PID 1.
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
