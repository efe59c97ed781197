//go:build unix && !linux

package sigmask

import "syscall"

// Set does nothing: the mask is that of our parent except for the few signals that the Go runtime needs.
func Set(...syscall.Signal) (restore func()) { return func() {} }
