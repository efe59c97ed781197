package process

import "syscall"

// inherited is how our parent set up signals for us, which is how they shall be in what we start. The Go runtime
// has put its own handlers and mask in place before main begins.
type Inherited struct {
	Ignored []syscall.Signal // had SIG_IGN
	Blocked []syscall.Signal
}

// ignores tells whether our parent ignored the signal.
func (i Inherited) Ignores(sig syscall.Signal) bool {
	for _, s := range i.Ignored {
		if s == sig {
			return true
		}
	}
	return false
}
