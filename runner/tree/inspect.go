package tree

import (
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// Sight describes which processes graceful can see.
type Sight struct {
	Proc           bool // /proc shows graceful's own PID namespace
	ChildrenListed bool // /proc lists the children of each process; otherwise graceful must read every process
	OtherUsers     bool // /proc shows PID 1, so probably also the processes of other users (no hidepid)
}

// Sight reports which processes graceful can see here. Without /proc, as on other systems than Linux, all fields are
// false.
func (t *Tree) Sight() Sight {
	const initPID = 1 // always exists, and usually belongs to another user, unless graceful is root
	_, others := t.proc.Read(initPID)
	return Sight{Proc: t.proc != nil, ChildrenListed: t.proc.HasChildren(), OtherUsers: others}
}

// SetScanLimit sets the time at which scans of the tree end with a partial result. Zero means no limit.
func (t *Tree) SetScanLimit(end time.Time) { t.proc.SetScanLimit(end) }

// IsLate reports whether the time of SetScanLimit has passed. A scan may then have missed members.
func (t *Tree) IsLate() bool { return t.proc.IsLate() }

// Child returns the process with a pid, dead or alive. Usually it is a child of the root. If /proc does not show the
// process, only the pid is set in the result.
func (t *Tree) Child(pid int) procfs.Process {
	if p, ok := t.proc.Read(pid); ok {
		return p
	}
	return procfs.Process{Identity: procfs.Identity{PID: pid}}
}

// Alive reports whether the process with this identity is alive. If /proc does not show the pid, for example for lack
// of a descriptor, Alive returns true for any process with that pid, even for a zombie.
func (t *Tree) Alive(id procfs.Identity) bool {
	p, ok := t.proc.Read(id.PID)
	if !ok {
		return unix.Kill(id.PID, 0) != unix.ESRCH
	}
	return !p.Dead && p.Identity == id
}

// Environ returns the value of a variable in the initial environment of a live process. ok is false if the variable is
// not set or the environment cannot be read.
func (t *Tree) Environ(pid int, name string) (value string, ok bool) {
	return t.proc.Environ(pid, name)
}

// DiedAsLeader reports whether a child is a zombie that led a process group in graceful's session, as a cleanup command
// does. Orphans almost never do so, because a daemon has its own session.
func (t *Tree) DiedAsLeader(pid int) bool {
	p, ok := t.proc.Read(pid)
	session, err := unix.Getsid(pid)
	own, ownErr := unix.Getsid(0)
	return ok && p.Dead && p.Group == pid && err == nil && ownErr == nil && session == own
}

// RunsOwnExecutable reports whether a process runs graceful's executable. A child does so between fork(2) and
// execve(2).
func (t *Tree) RunsOwnExecutable(pid int) bool { return t.proc.RunsOwnExecutable(pid) }
