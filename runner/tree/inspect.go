package tree

import (
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// Sight is what graceful can see of processes.
type Sight struct {
	Proc   bool // /proc shows graceful's own PID namespace
	Lists  bool // /proc lists the children of each process, so that not every process must be read
	Others bool // /proc shows the processes of other users too (no hidepid)
}

// Sight returns what graceful can see here. Outside of Linux that is nothing.
func (t *Tree) Sight() Sight {
	const initPID = 1 // exists always, and belongs to root unless graceful is root
	_, others := t.proc.Read(initPID)
	return Sight{Proc: t.proc != nil, Lists: t.proc.HasChildren(), Others: others}
}

// Until limits how long a look at the tree takes: from then on it ends with what it has seen. Zero is no limit.
func (t *Tree) Until(end time.Time) { t.proc.Until(end) }

// IsLate reports whether the time of Until is over: a look may have missed members.
func (t *Tree) IsLate() bool { return t.proc.IsLate() }

// Child returns a child of graceful, dead or alive. If /proc does not show it, only its pid is set.
func (t *Tree) Child(pid int) procfs.Process {
	if p, ok := t.proc.Read(pid); ok {
		return p
	}
	return procfs.Process{Identity: procfs.Identity{PID: pid}}
}

// Alive reports whether the process id is alive. If /proc cannot be read, for instance for lack of a file descriptor,
// any process with its pid counts.
func (t *Tree) Alive(id procfs.Identity) bool {
	p, ok := t.proc.Read(id.PID)
	if !ok {
		return unix.Kill(id.PID, 0) != unix.ESRCH
	}
	return !p.Dead && p.Identity == id
}

// Ending reports whether a process is gone, a zombie, or about to become one. A process whose children are reparented
// is at least ending: the kernel passes them on as soon as all its threads are in exit(2), before it is a zombie.
// Without /proc it is true.
func (t *Tree) Ending(pid int) bool {
	p, ok := t.proc.Read(pid)
	return !ok || p.Exiting
}

// Environ returns the value of a variable in the environment that a living process was started with. ok is false if the
// variable is not set or the environment cannot be read.
func (t *Tree) Environ(pid int, name string) (value string, ok bool) {
	return t.proc.Environ(pid, name)
}

// DiedLeading reports whether a child is a zombie that led a process group in graceful's session. A cleanup command
// does. An orphan hardly ever does: a daemon has a session of its own.
func (t *Tree) DiedLeading(pid int) bool {
	p, ok := t.proc.Read(pid)
	session, err := unix.Getsid(pid)
	own, ownErr := unix.Getsid(0)
	return ok && p.Dead && p.Group == pid && err == nil && ownErr == nil && session == own
}

// RunsUs reports whether a process runs graceful's executable, as a child does between fork(2) and execve(2).
func (t *Tree) RunsUs(pid int) bool { return t.proc.RunsUs(pid) }
