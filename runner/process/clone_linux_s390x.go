package process

import "golang.org/x/sys/unix"

// clone forks this process. On s390x the first two arguments of clone(2) are swapped.
//
//go:norace
//go:nosplit
func (r *request) clone() { r.try(unix.SYS_CLONE, 0, r.cloneFlags(), r.pidAddress(), 0) }
