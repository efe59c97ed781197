//go:build unix && !linux

package runner

import (
	"errors"

	"graceful/cleanup/registry"
	"graceful/runner/procfs"
)

func (p *processes) member(int, uint64, int) (procfs.Process, error) {
	return procfs.Process{}, errors.New("waiting for the end of a process that is not our child takes Linux")
}

func (p *processes) awaitExit(procfs.Identity) bool { return false }

// waitFor cannot wait on this system.
func waitFor(int) func() bool { return func() bool { return false } }

// admit admits all processes of graceful's user and of root. This system reports no more about the peer.
func (p *processes) admit(registry.Call) error { return nil }
