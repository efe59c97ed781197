package runner

import "syscall"

// inherited is how our parent set up signals for us, which is how they shall be in what we start. The Go runtime
// has put its own handlers and mask in place before main begins.
type inherited struct {
	ignored []syscall.Signal // had SIG_IGN
	blocked []syscall.Signal
}

// ignores tells whether our parent ignored the signal.
func (i inherited) ignores(sig syscall.Signal) bool {
	for _, s := range i.ignored {
		if s == sig {
			return true
		}
	}
	return false
}
