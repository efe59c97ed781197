//go:build unix && !linux

package tree

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// AdoptOrphans fails.
func AdoptOrphans() error { return becomeSubreaper() }

func becomeSubreaper() error {
	return errors.New("this system has no child subreaper: what leaves the target's process group cannot be found")
}

func (*Tree) signal(p procfs.Process, sig syscall.Signal) error { return unix.Kill(p.PID, sig) }
