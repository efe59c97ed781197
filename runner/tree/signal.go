package tree

import (
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// SignalGroup signals the target's process group, or the target alone if the target leads no group. SignalGroup does
// nothing without a target, or after the target is reaped, because the kernel may then reuse the group's id. A missing
// group is no error.
func (t *Tree) SignalGroup(sig syscall.Signal) error {
	if t.Leader() <= 0 { // kill(0) would signal graceful's own group
		return nil
	}
	return SignalGroupOf(t.targetGroup, sig)
}

// SignalGroupOf signals the process group that pid leads. pid must be an unreaped child of graceful or of the guard. If
// that group does not exist, for example because the child has moved to another group, SignalGroupOf signals only the
// child. A missing process is no error.
func SignalGroupOf(pid int, sig syscall.Signal) error {
	if pid <= 1 { // kill(2) would signal graceful's own group, or all processes
		return unix.EINVAL
	}
	err := unix.Kill(-pid, sig)
	if err == unix.ESRCH {
		err = unix.Kill(pid, sig)
	}
	return except(unix.ESRCH, err)
}

// SignalLeader signals only the target. SignalLeader does nothing without a target, or after the target is reaped. A
// missing target is no error.
func (t *Tree) SignalLeader(sig syscall.Signal) error {
	if t.Leader() <= 0 {
		return nil
	}
	return except(unix.ESRCH, unix.Kill(t.targetGroup, sig))
}

// SignalAll signals the process with the identity id and its descendants. The process need not be a child of graceful.
// If /proc does not show the process, SignalAll does nothing.
func (t *Tree) SignalAll(id procfs.Identity, sig syscall.Signal) {
	p, ok := t.proc.Read(id.PID)
	if !ok || p.Identity != id {
		return
	}
	for _, p := range slices.Concat([]procfs.Process{p}, t.proc.Descendants(p.PID, nil)) {
		_ = t.signal(p, sig)
	}
}

// Signal sends the signals, in sequence, once to every member. It repeats the search until it finds no new member, at
// most maxPasses times. The reason is that the children of a member that dies of the signal may be reparented to a part
// of the tree that was already searched. If a live member starts a process after its own signal, Signal does not signal
// that process, because the member may need the process in order to end. Without /proc, Signal calls signalWithoutProc.
func (t *Tree) Signal(signals ...syscall.Signal) {
	if t.proc == nil {
		for _, sig := range signals {
			t.signalWithoutProc(sig)
		}
		return
	}
	_, _ = t.signalOnce(signals, nil)
}

// SignalOrphans sends the signals to each live child of the root that was handled neither by the last Signal or
// SignalRest nor by a SignalOrphans since then. Such a child was reparented to the root when its parent died.
// SignalOrphans omits a child that SignalRest would skip or that /proc hides. It does nothing at level Group, or before
// the first Signal or SignalRest.
func (t *Tree) SignalOrphans(signals ...syscall.Signal) {
	if t.level != Subreaper || t.signalled == nil {
		return
	}
	now := t.proc.Now()
	for _, p := range t.Children() {
		hidden := p.Start == 0 // unknown whether the last Signal has reached it
		if p.Dead || hidden || t.signalled[p.Identity] {
			continue
		}
		t.signalled[p.Identity] = true
		if t.skip == nil || !t.skip(p, nil) {
			t.signalEach(p, signals)
			t.stopSignals.add(p.Identity, signals[0], now)
		}
	}
}

// skipFunc reports whether a member gets no signal. members maps the pids of all members to the members. The map is nil
// if they are unknown.
type skipFunc func(p procfs.Process, members map[int]procfs.Process) bool

// signalOnce does the work of Signal and SignalRest: it sends the signals to each member for which skip does not return
// true. receivers are these members, and before is a moment before the signals. With a nil skip, signalOnce sends each
// signal to the target's group in one system call, and then to the members outside of the group.
func (t *Tree) signalOnce(
	signals []syscall.Signal, skip skipFunc,
) (receivers []procfs.Identity, before procfs.Moment) {
	done := map[procfs.Identity]bool{}
	t.signalled, t.skip = done, skip
	for pass := range maxPasses {
		members, doneBefore := t.Members(), len(done)
		survivors, byPID := map[int]bool{}, map[int]procfs.Process{}
		for _, p := range members {
			survivors[p.PID] = survivors[p.PID] || done[p.Identity]
			byPID[p.PID] = p
		}
		if pass == 0 {
			before = t.proc.Now()
		}
		if pass == 0 && skip == nil {
			for _, sig := range signals {
				_ = t.SignalGroup(sig)
			}
		}
		for _, p := range members {
			if done[p.Identity] || survivors[p.PPID] {
				continue
			}
			done[p.Identity] = true
			if skip != nil && skip(p, byPID) {
				continue
			}
			receivers = append(receivers, p.Identity)
			if skip == nil && !before.Precedes(p.Identity) && t.receivedWithGroup(p) {
				continue
			}
			t.signalEach(p, signals)
		}
		if len(done) == doneBefore {
			break
		}
	}
	return receivers, before
}

// receivedWithGroup reports whether the signal to the target's group has reached the member p, which was born before
// that signal. That is so if p is still in the group, or has ended. A member that has left the group (setsid(2)) may
// have done so between the scan and the signal, so it counts as not reached. If it left just after the signal, it
// receives the signal twice.
func (t *Tree) receivedWithGroup(p procfs.Process) bool {
	if !t.targetUnreaped || p.Group != t.targetGroup {
		return false
	}
	now, err := unix.Getpgid(p.PID)
	return err != nil || now == t.targetGroup
}

// signalEach sends signals to one member. It ignores errors: Kill reports the members that graceful may not signal.
func (t *Tree) signalEach(p procfs.Process, signals []syscall.Signal) {
	for _, sig := range signals {
		_ = t.signal(p, sig)
	}
}

// signalWithoutProc signals the processes that graceful can reach without /proc. By default it signals the target's
// group. If graceful is PID 1 at level Subreaper, it signals all other processes of the PID namespace (kill(2)), which
// end with graceful in any case.
func (t *Tree) signalWithoutProc(sig syscall.Signal) {
	if t.self == 1 && t.level == Subreaper {
		_ = unix.Kill(-1, sig)
		return
	}
	if t.targetGroup != 0 {
		_ = unix.Kill(-t.targetGroup, sig)
	}
}

// except returns err, or nil if it is the expected error.
func except(expected, err error) error {
	if err == expected {
		return nil
	}
	return err
}
