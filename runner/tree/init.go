package tree

import (
	"slices"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// If graceful is PID 1, its end is the end of the PID namespace, usually a container. So it stops all processes there.

// isInit reports whether every process of the PID namespace is a member, except those that came from outside.
func (t *Tree) isInit() bool { return t.self == 1 && t.level == Subreaper }

// hasOwn reports whether graceful has members as its own children, in addition to the root's.
func (t *Tree) hasOwn() bool { return t.isInit() && t.root != t.self && t.proc != nil }

// notOwn lists the children of graceful that are not members.
func (t *Tree) notOwn() []int { return append(slices.Clone(t.excluded), t.root) }

// SignalOutsiders sends SIGHUP and SIGTERM to the processes that entered the PID namespace from outside, for example by
// docker exec. Their uppermost ancestor has the parent 0. It does nothing unless graceful is PID 1.
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
