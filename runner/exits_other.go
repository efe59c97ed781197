//go:build unix && !linux

package runner

import (
	"errors"

	"graceful/runner/procfs"
)

func (p *processes) member(int, uint64, int) (procfs.Process, error) {
	return procfs.Process{}, errors.New("waiting for the end of a process that is not our child takes Linux")
}

func (p *processes) await(procfs.Identity) bool { return false }

// StartOf is not known.
func StartOf(int) uint64 { return 0 }
