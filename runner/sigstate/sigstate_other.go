//go:build unix && !linux

package sigstate

import "syscall"

// SetMask does nothing. The mask is the one of the parent, except for a few signals that the Go runtime needs.
func SetMask(...syscall.Signal) (restore func()) { return func() {} }
