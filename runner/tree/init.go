package tree

import (
	"slices"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// As PID 1, graceful ends with its PID namespace, a container as a rule. So all processes in there are asked to end.

// isInit reports whether every process of the PID namespace is a member, but for those that came from outside.
func (t *Tree) isInit() bool { return t.self == 1 && t.level == Subreaper }

// hasOwn reports whether graceful has members as children beside those of the root.
func (t *Tree) hasOwn() bool { return t.isInit() && t.root != t.self && t.proc != nil }

// notOwn lists the children of graceful that are no members of that kind.
func (t *Tree) notOwn() []int { return append(slices.Clone(t.excluded), t.root) }

// SignalOutsiders sends SIGHUP and SIGTERM to the processes of the PID namespace that came from outside, as by docker
// exec: their uppermost ancestor has the parent 0. It does nothing unless graceful is PID 1.
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
