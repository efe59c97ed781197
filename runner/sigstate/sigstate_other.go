//go:build unix && !linux

package sigstate

import "syscall"

// SetMask does nothing: the mask is that of our parent except for the few signals that the Go runtime needs.
func SetMask(...syscall.Signal) (restore func()) { return func() {} }
