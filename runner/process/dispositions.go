package process

import (
	"slices"
	"syscall"
)

// Inherited is the signal dispositions and the mask that graceful was started with. The processes that it starts shall have
// them, too. The Go runtime replaces both before main begins.
type Inherited struct {
	Ignored []syscall.Signal // those with SIG_IGN
	Blocked []syscall.Signal
}

// Ignores reports whether a signal was ignored.
func (i Inherited) Ignores(sig syscall.Signal) bool {
	return slices.Contains(i.Ignored, sig)
}
