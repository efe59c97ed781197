package tree

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// AdoptOrphans makes every orphan below us our child, whatever the level of containment.
func AdoptOrphans() error { return becomeSubreaper() }

// becomeSubreaper makes every orphan below us our child (prctl(2), PR_SET_CHILD_SUBREAPER, Linux 3.4). PID 1 has
// that by nature.
func becomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming a child subreaper: %w", err)
	}
	return nil
}

// signal signals one process that was seen, and nobody who has got its id since: our own child's id is safe
// until we reap it; any other process is pinned with a pidfd and then looked at again.
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
		return unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	return unix.Kill(p.PID, sig) // Linux before 5.3, or no descriptor to be had
}
