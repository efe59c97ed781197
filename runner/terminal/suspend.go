package terminal

import (
	"cmp"
	"syscall"

	"golang.org/x/sys/unix"
)

// Answer is the reaction to a signal that has suspended the target.
type Answer uint8

const (
	// Leave: do nothing; the target stays suspended.
	Leave Answer = iota
	// Continue: continue the target at once.
	Continue
	// Hangup: send SIGHUP to the target and continue the target. No process can give the target the foreground.
	Hangup
	// SuspendToo: suspend graceful's group by the same signal.
	SuspendToo
)

// situation contains the input of answer.
type situation struct {
	signal        syscall.Signal // signal that has suspended the target
	groupInFront  bool           // graceful's group is the foreground group
	targetInFront bool           // the foreground group belongs to the target: see belongsToTarget
	orphaned      bool           // graceful's group is orphaned, so no shell would continue it
	hungUp        bool           // Hangup was returned before
}

// answer returns the reaction for a situation. The shell must see graceful suspended when it would see the target
// suspended without graceful. There is one exception: the target uses the terminal while the shell has the job in the
// foreground. Then the target gets the foreground and continues.
//
// In an orphaned process group the kernel suspends no process by a signal of the terminal. It sends SIGHUP to a
// suspended group that becomes orphaned (setpgid(2)). answer treats the target as the kernel treats a member of such a
// group.
func answer(s situation) Answer {
	usesTerminal := s.signal == unix.SIGTTIN || s.signal == unix.SIGTTOU
	switch {
	case usesTerminal && (s.groupInFront || s.targetInFront):
		return Continue
	case !s.orphaned:
		return SuspendToo
	case usesTerminal && !s.hungUp:
		return Hangup
	case s.signal == unix.SIGTSTP:
		return Continue
	}
	return Leave
}

// Suspended returns the answer for a target that sig has suspended, and changes the foreground group as the answer
// requires. The caller does the rest. If the foreground group cannot be read, or the foreground cannot be given to the
// target, Suspended returns Leave.
func (t *Terminal) Suspended(target int, sig syscall.Signal) Answer {
	if t == nil {
		return Leave
	}
	front := t.foreground()
	if front < 0 {
		return Leave
	}
	s := situation{
		signal: sig, groupInFront: front == t.group, targetInFront: t.belongsToTarget(front, target),
		orphaned: orphaned(t.group), hungUp: t.hungUp,
	}
	a := answer(s)
	switch {
	case a == Continue && s.groupInFront:
		if t.GiveForeground(target) != nil {
			return Leave
		}
	case a == Hangup:
		t.hungUp = true
	case a == SuspendToo && s.targetInFront:
		t.foregroundForTarget = true
		_ = t.setForeground(t.group)
	case a == SuspendToo && (sig == unix.SIGTTIN || sig == unix.SIGTTOU):
		t.foregroundForTarget = true // takes effect when the shell continues the group
	}
	return a
}

// hasShell reports whether parent, the parent of a member of a group, prevents the group from being orphaned. parent
// does so if it is in the same session as the member and in another group, like the shell of a job (setpgid(2)).
func hasShell(group, member, parent int) bool {
	parentGroup, err := unix.Getpgid(parent)
	session, err1 := unix.Getsid(member)
	parentSession, err2 := unix.Getsid(parent)
	return cmp.Or(err, err1, err2) == nil && parentGroup != group && parentSession == session
}

// Reclaim handles a signal of job control to graceful's group. SIGTTIN and SIGTTOU mean that a member of the group uses
// the terminal. If the target has the foreground then, Reclaim takes it back, continues the group and returns true.
// Otherwise it returns false, and the caller handles the signal.
func (t *Terminal) Reclaim(target int, sig syscall.Signal) bool {
	if t == nil || sig != unix.SIGTTIN && sig != unix.SIGTTOU || !t.TakeForeground(target) {
		return false
	}
	t.foregroundForTarget = false // until the target uses the terminal
	if t.group > 1 {
		_ = unix.Kill(-t.group, unix.SIGCONT)
	} else { // for group 1, kill(-1) would signal every process
		t.SignalOthers(unix.SIGCONT, 0)
	}
	return true
}

// Continued handles SIGCONT to graceful's group. If the shell has given the foreground to the group, and the target was
// the last to need the foreground, Continued gives the foreground to the target. Continued also does what Resumed does.
func (t *Terminal) Continued(target int) {
	if t == nil {
		return
	}
	t.Resumed()
	if t.foregroundForTarget && t.foreground() == t.group {
		_ = t.GiveForeground(target)
	}
}

// Suspend suspends the group of this process by sig, although this process catches sig. The shell sees that sig has
// suspended the group, as for the target. (On systems other than Linux, the signal is SIGSTOP.) One system call signals
// the whole group, so no member can be continued before all members are suspended. This process does not catch sig
// until Resumed, because sig may take effect after Suspend has returned.
func (t *Terminal) Suspend(sig syscall.Signal) {
	t.Resumed()
	t.undoSuspend = suspendGroup(sig)
}

// Resumed handles SIGCONT to this process. This process then catches the signal of Suspend again.
func (t *Terminal) Resumed() {
	if t != nil && t.undoSuspend != nil {
		t.undoSuspend()
		t.undoSuspend = nil
	}
}
