package tree

import (
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// Pins returns nil if a process can be pinned before it is signalled (pidfd_open(2), Linux 5.3), else the reason.
func Pins() error {
	fd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.PidfdSendSignal(fd, 0, nil, 0)
}

// signal signals the process p, and never another process that has reused its pid. The pid of a child is safe until
// graceful reaps it. Any other process is pinned with a pidfd and then read again. signal returns ESRCH if p is gone.
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
	return unix.Kill(p.PID, sig) // before Linux 5.3, or no file descriptor is free
}
