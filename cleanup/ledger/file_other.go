//go:build unix && !linux

package ledger

import (
	"errors"

	"golang.org/x/sys/unix"
)

// memoryFile is Linux's alone: elsewhere there are names for what is in memory, and they can outlive us.
func memoryFile() (int, error) { return -1, errors.ErrUnsupported }

// allocate cannot be had without changing the size.
func allocate(int, int64, int64) error { return errors.ErrUnsupported }

func syncData(fd int) error { return unix.Fsync(fd) }
