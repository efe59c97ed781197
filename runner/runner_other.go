//go:build unix && !linux

package runner

import (
	"errors"

	"golang.org/x/sys/unix"

	"graceful/cleanup/registry"
	"graceful/runner/procfs"
)

func (sys *realSystem) member(int, uint64, int) (procfs.Process, error) {
	return procfs.Process{}, errors.New("waiting for a process that is not a child of graceful needs Linux")
}

func (sys *realSystem) awaitExit(procfs.Identity) bool { return false }

// waitFor returns a function that returns false, because this system cannot wait for another process.
func waitFor(int) func() bool { return func() bool { return false } }

// kindOf returns the type of the file of a descriptor (S_IFMT), or 0.
func kindOf(fd int) uint32 {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return uint32(st.Mode) & unix.S_IFMT
}

// isShutDown returns false, because the check needs Linux.
func isShutDown(int) bool { return false }

// admit admits all processes of graceful's user and of root, because this system reports no more about a peer.
func (sys *realSystem) admit(registry.Call) error { return nil }
