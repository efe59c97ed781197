package tree

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// AdoptOrphans makes graceful a child subreaper: an orphaned descendant is reparented to graceful, unless a nearer
// ancestor is a subreaper as well (prctl(2), PR_SET_CHILD_SUBREAPER, Linux 3.4). PID 1 always has that role.
func AdoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming a child subreaper: %w", err)
	}
	return nil
}

// CheckPidfds returns nil if graceful can pin a process before it signals that process (pidfd_open(2), Linux 5.3).
// Otherwise it returns the reason.
func CheckPidfds() error {
	fd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.PidfdSendSignal(fd, 0, nil, 0)
}

// signal signals the process p, and not another process that has reused the pid. The pid of a child is safe until
// graceful reaps the child. For any other process, signal opens a pidfd and then reads the process again. Without a
// pidfd, the pid may still be reused between that read and the signal. signal returns ESRCH if p does not exist any
// more.
func (t *Tree) signal(p procfs.Process, sig syscall.Signal) error {
	if p.PPID == t.self {
		return unix.Kill(p.PID, sig)
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	switch err {
	case nil:
		defer unix.Close(fd)
	case unix.ESRCH, unix.EINVAL:
		return unix.ESRCH
	}
	if now, ok := t.proc.Read(p.PID); !ok || now.Identity != p.Identity {
		return unix.ESRCH
	}
	if err == nil {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	if err == nil || err == unix.ESRCH {
		return err
	}
	return unix.Kill(p.PID, sig) // no pidfd (before Linux 5.3, or no free descriptor), or a refused call
}

// hasChildren reports whether graceful has a child, dead or alive. It takes less time than listing all threads'
// children.
func hasChildren() bool {
	return unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil) != unix.ECHILD
}
