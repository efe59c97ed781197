//go:build unix && !linux

package runner

import "time"

// sinceBoot stands for a clock that processes have in common; nothing goes on from a ledger here while the machine runs.
func sinceBoot() time.Duration { return time.Duration(time.Now().UnixNano()) }
