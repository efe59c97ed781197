//go:build !s390x

package process

import "golang.org/x/sys/unix"

// clone forks this process.
//
//go:norace
//go:nosplit
func (r *request) clone() { r.try(unix.SYS_CLONE, r.cloneFlags(), 0, r.pidAddress(), 0) }
