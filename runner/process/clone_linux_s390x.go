package process

import "golang.org/x/sys/unix"

// clone forks this process. The first two arguments of clone(2) are in the other order on this architecture.
//
//go:norace
//go:nosplit
func (r *request) clone() { r.try(unix.SYS_CLONE, 0, r.cloneFlags(), r.pidAddress(), 0) }
