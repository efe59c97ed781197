//go:build unix && !linux

package runner

import (
	"errors"

	"graceful/runner/tree"
)

func (p *processes) member(int, uint64, int) (tree.Process, error) {
	return tree.Process{}, errors.New("waiting for the end of a process that is not our child takes Linux")
}

func (p *processes) await(tree.Identity) bool { return false }

// StartOf is not known.
func StartOf(int) uint64 { return 0 }
