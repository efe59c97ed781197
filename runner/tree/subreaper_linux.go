package tree

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// AdoptOrphans makes graceful a child subreaper: every orphaned descendant is reparented to it (prctl(2),
// PR_SET_CHILD_SUBREAPER, Linux 3.4). PID 1 is one by nature.
func AdoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming a child subreaper: %w", err)
	}
	return nil
}
