//go:build unix && !linux

package ledger

import (
	"errors"

	"golang.org/x/sys/unix"
)

// memoryFile returns an error. On this system a shared memory object has a name, and it outlives its processes.
func memoryFile() (int, error) { return -1, errors.ErrUnsupported }

// allocate returns an error, because allocating would change the size of the file.
func allocate(int, int64, int64) error { return errors.ErrUnsupported }

// syncData waits until a file is on the disk.
func syncData(fd int) error { return unix.Fsync(fd) }

// IsShared returns false, because graceful cannot identify network file systems on this system.
func (*Ledger) IsShared() bool { return false }
