//go:build unix && !linux

package ledger

import (
	"errors"

	"golang.org/x/sys/unix"
)

// memoryFile is not supported: a shared memory object has a name, and outlives its processes.
func memoryFile() (int, error) { return -1, errors.ErrUnsupported }

// allocate is not supported: it would change the size of the file.
func allocate(int, int64, int64) error { return errors.ErrUnsupported }

// syncData waits until a file is on the disk.
func syncData(fd int) error { return unix.Fsync(fd) }

// IsShared returns false: it is not known here.
func (*Ledger) IsShared() bool { return false }
