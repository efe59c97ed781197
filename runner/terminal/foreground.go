package terminal

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Answer is what is to be done when the target has been stopped.
type Answer uint8

// The answers.
const (
	Leave    Answer = iota // it stopped
	Continue               // it at once
	Hangup                 // the same, and say that it has lost its terminal
	StopToo                // our group stops by the same signal
)

// situation is what an answer depends on.
type situation struct {
	signal   syscall.Signal
	ours     bool // our group is in the foreground
	lent     bool // the target, or somebody below it, is
	orphaned bool // nobody would continue our group
	told     bool // Hangup was the answer before
}

// answer: without us the shell would see the target stop, and so it has to see us stop; but for a target that wants the
// terminal while the shell believes that it has it. Where no shell is there to continue anybody, the kernel lets nobody be
// stopped from the terminal (orphaned process groups, setpgid(2)); and those that it finds stopped when the shell ends it
// tells of that by SIGHUP.
func answer(s situation) Answer {
	wants := s.signal == unix.SIGTTIN || s.signal == unix.SIGTTOU
	switch {
	case wants && (s.ours || s.lent):
		return Continue
	case !s.orphaned:
		return StopToo
	case wants && !s.told:
		return Hangup
	case s.signal == unix.SIGTSTP:
		return Continue
	}
	return Leave
}

// Stopped is asked when the target has been stopped by a signal. The terminal is then with whom the answer wants to have it.
func (t *Terminal) Stopped(target int, sig syscall.Signal) Answer {
	if t == nil {
		return Leave
	}
	front := t.foreground()
	if front < 0 {
		return Leave
	}
	s := situation{signal: sig, ours: front == t.group, lent: t.isLent(front, target), orphaned: orphaned(t.group), told: t.hung}
	a := answer(s)
	switch {
	case a == Continue && s.ours:
		if t.Lend(target) != nil {
			return Leave
		}
	case a == Hangup:
		t.hung = true
	case a == StopToo && s.lent:
		t.lent = true
		_ = t.set(t.group)
	case a == StopToo && (sig == unix.SIGTTIN || sig == unix.SIGTTOU):
		t.lent = true // when it goes on
	}
	return a
}

// Wanted is asked when our group gets a signal of job control. It tells whether that came because somebody in it uses the
// terminal, which the target has: then it is given back, and all of the group go on.
func (t *Terminal) Wanted(target int, sig syscall.Signal) bool {
	if t == nil || sig != unix.SIGTTIN && sig != unix.SIGTTOU || !t.Return(target) {
		return false
	}
	t.lent = false // until the target uses it
	if t.group > 0 {
		_ = unix.Kill(-t.group, unix.SIGCONT)
	}
	return true
}

// Continued says that our group goes on after a stop. The target has the terminal again when the shell has given it to us.
func (t *Terminal) Continued(target int) {
	if t == nil {
		return
	}
	t.Resumed()
	if t.lent && t.foreground() == t.group {
		_ = t.Lend(target)
	}
}

// Stop stops the calling process, and all others of its group at the same moment, as if it did not catch the signal: the
// shell sees what it would see of the target, and nobody can be continued before all have been stopped. The signal stays
// uncaught until Resumed, since it may take effect only after our return.
func (t *Terminal) Stop(sig syscall.Signal) {
	t.Resumed()
	t.undo = stopGroup(sig)
}

// Resumed says that SIGCONT has come.
func (t *Terminal) Resumed() {
	if t != nil && t.undo != nil {
		t.undo()
		t.undo = nil
	}
}
