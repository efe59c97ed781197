package runner

import (
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/forward"
	"graceful/runner/machine"
	"graceful/runner/terminal"
)

// stopsOn returns the signals that stop a run. By default it omits signals that were ignored when graceful started,
// because a shell makes its background jobs ignore Ctrl-C. A user can name such signals to include them
// (StopsOnIgnored).
func (sys *realSystem) stopsOn(c Config) []int {
	if c.StopsOnIgnored {
		return c.StopOn
	}
	ignored := func(sig int) bool { return slices.Contains(sys.inherited.Ignored, syscall.Signal(sig)) }
	if slices.Contains(c.StopOn, machine.SigTERM) && ignored(machine.SigTERM) {
		sys.log.Warn("SIGTERM does not stop the run", "err", "it was ignored when graceful started", "hint", "--stop-on TERM")
	}
	return slices.DeleteFunc(slices.Clone(c.StopOn), ignored)
}

// suspendSelf suspends graceful's whole group by the signal sig of the terminal. If sig is 0, or if the run has no
// terminal, suspendSelf suspends only this process. The guard continues this process when the target ends. The
// suspension may take effect after suspendSelf has returned.
func (sys *realSystem) suspendSelf(sig syscall.Signal) {
	sys.pty.Pause()
	if sys.guard != nil {
		sys.guard.ContinueAtEnd(true)
	}
	if sig == 0 || sys.terminal == nil {
		_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
		return
	}
	sys.terminal.Suspend(sig)
}

// suspension schedules the time at which graceful suspends itself after it has forwarded a suspend signal, such as
// SIGTSTP.
type suspension struct {
	nextCheck time.Time // next check whether the target is suspended; zero: none is scheduled
	lastCheck time.Time // a check at this time or later is the last one
}

const (
	// suspendAfter is the time from a forwarded suspend signal to the first check, and between two checks. A SIGCONT that
	// arrives before the check cancels the suspension. One that arrives between the check and SIGSTOP would be lost. The
	// value is long enough for a busy machine.
	suspendAfter = 100 * time.Millisecond
	// suspendWithin is the maximum time that a target may take to suspend itself, if it catches the signal.
	suspendWithin = 10 * time.Second
)

// suspendWhenDue checks, if a check is due, whether a forwarded signal has suspended the target. If so, it suspends
// graceful. If the target is not suspended within suspendWithin, for example because it ignores the signal, graceful
// also keeps running.
func (l *loop) suspendWhenDue(now time.Time) {
	for !l.suspension.nextCheck.IsZero() && !l.suspension.nextCheck.After(now) {
		select {
		case sig := <-l.inputs.signals: // it may be a SIGCONT
			l.handleSignal(sig)
			continue
		default:
		}
		switch {
		case l.run.Target.Ended || l.run.State >= machine.Killing: // the target can no longer be suspended
			l.suspension = suspension{}
		case l.sys.Suspended(l.run.Target.PID):
			l.suspension = suspension{}
			l.log.Info("suspending graceful")
			l.sys.suspend()
		case now.Before(l.suspension.lastCheck):
			l.suspension.nextCheck = now.Add(suspendAfter)
		default:
			l.suspension = suspension{}
			l.log.Info("not suspending graceful", "err", "the target was not suspended")
		}
	}
}

// checkSuspension handles a signal that has suspended the target, unless graceful has forwarded that signal.
// suspendWhenDue handles forwarded signals.
func (l *loop) checkSuspension() {
	if l.run.Target.Ended || l.run.Target.PID == 0 || l.run.State >= machine.Killing {
		return
	}
	sig := l.sys.suspendedBy(l.run.Target.PID)
	if sig == 0 || !l.suspension.nextCheck.IsZero() {
		return
	}
	what := l.sys.answerSuspension(l.run.Target.PID, sig)
	l.log.Info("target suspended", "signal", forward.Name(sig), "answer", what)
}

// suspendedBy returns the signal that has suspended the target since the last call, or 0. Without a terminal it always
// returns 0.
func (sys *realSystem) suspendedBy(target int) syscall.Signal {
	if sys.terminal == nil {
		return 0
	}
	return sys.spawner().SuspendedBy(target)
}

// answerSuspension reacts to a signal that has suspended the target, and returns a description of the reaction.
func (sys *realSystem) answerSuspension(target int, sig syscall.Signal) (what string) {
	switch sys.terminal.Suspended(target, sig) {
	case terminal.Hangup:
		_ = sys.SignalGroup(unix.SIGHUP)
		_ = sys.SignalGroup(unix.SIGCONT)
		return "HUP and CONT: no process can give it the terminal"
	case terminal.Continue:
		_ = sys.SignalGroup(unix.SIGCONT)
		return "CONT"
	case terminal.SuspendToo:
		sys.suspendSelf(sig)
		return "suspending graceful"
	}
	return "nothing"
}

// suspend takes the foreground back, and suspends this process.
func (sys *realSystem) suspend() {
	sys.terminal.TakeForeground(sys.Leader())
	sys.suspendSelf(0)
}

// continued handles a SIGCONT to graceful. If the shell has given the foreground to graceful's group, continued gives
// it to the target. The guard no longer continues graceful at the end of the target.
func (sys *realSystem) continued(target int) {
	if sys.guard != nil {
		sys.guard.ContinueAtEnd(false)
	}
	sys.terminal.Continued(target)
}

// reclaimTerminal takes the foreground back from the target if sig means that a member of graceful's group uses the
// terminal. It returns true if the foreground has changed.
func (sys *realSystem) reclaimTerminal(target int, sig syscall.Signal) bool {
	return sys.terminal.Reclaim(target, sig)
}

// targetEnded takes the foreground back. If the target had the foreground and SIGINT or SIGQUIT ended it without a stop
// signal, targetEnded assumes a key such as Ctrl-C, and also signals the other members of graceful's group. It does not
// do so if isTrusted returns false: a target of another user may have signalled itself, and need not have the right to
// signal that group.
func (sys *realSystem) targetEnded(r Run) {
	back := sys.terminal.Restore(r.Target.PID)
	sig := syscall.Signal(r.Target.Ending.Signal)
	if back && r.Stop.Signal == 0 && (sig == unix.SIGINT || sig == unix.SIGQUIT) && sys.isTrusted(r.Target) {
		sys.terminal.SignalOthers(sig, unix.Getpid())
	}
}

// isTrusted reports whether an ended target belonged to graceful's user or to root. It returns false for a reaped
// target, and true without /proc.
func (sys *realSystem) isTrusted(target machine.Target) bool {
	if !sys.Sight().Proc {
		return true
	}
	uid := sys.UserOf(target.PID)
	return sys.Child(target.PID).Is(target.PID, target.Start) && (uid == unix.Getuid() || uid == 0)
}

// predecessorEnded takes the foreground back for the other members of the group of a killed graceful, because they
// still run. If there is no such member, the shell takes the foreground and sets the terminal modes itself.
func (sys *realSystem) predecessorEnded(target int) {
	if sys.terminal.HasOthers(unix.Getpid()) {
		sys.terminal.Restore(target)
	}
}

// newPolicy returns a policy for pty. A deadline of the run also limits the time that the reader of the target's
// output may take. pty may be nil.
func newPolicy(pty *terminal.PTY, c Config) terminal.Policy {
	patience := time.Duration(0)
	if c.Deadline > 0 {
		patience = c.Patience()
	}
	return terminal.NewPolicy(pty, patience)
}

// relayRest starts to relay the rest of the target's output. The result is closed when that output is relayed, or at a
// limit of terminal.Policy. If the run is being stopped, graceful does not wait after the run for the reader of the
// output. stopping means that a stop signal has arrived.
func (sys *realSystem) relayRest(r Run, stopping bool) <-chan struct{} {
	return sys.pty.RelayRest(stopping || r.Stop.TimedOut || r.Stop.PeerEnded)
}
