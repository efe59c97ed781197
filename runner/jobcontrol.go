package runner

import (
	"syscall"
	"time"

	"graceful/forward"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/terminal"

	"golang.org/x/sys/unix"
)

// suspendSelf suspends this process. If by is a signal of the terminal, it suspends the whole group; by is 0 otherwise.
// No process would continue it after the target's end: the guard does. Suspension may take effect only after the calls
// have returned.
func (p *processes) suspendSelf(by syscall.Signal) {
	p.pty.Pause()
	if p.guard != nil {
		p.guard.ContinueAtEnd(true)
	}
	if by == 0 || p.terminal == nil {
		_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
		return
	}
	p.terminal.Suspend(by)
}

// checkSuspension handles a signal that has suspended the target. After a signal that graceful forwarded, the loop
// suspends graceful itself (suspendAt).
func (l *loop) checkSuspension() {
	if l.run.Target.Ended || l.run.Target.PID == 0 || l.run.State >= machine.Killing {
		return
	}
	sig := l.sys.suspendedBy(l.run.Target.PID)
	if sig == 0 || !l.suspendAt.IsZero() {
		return
	}
	what := l.sys.answerSuspension(l.run.Target.PID, sig)
	l.log.Info("target suspended", "signal", forward.Name(sig), "answer", what)
}

// suspendedBy returns the signal that has suspended the target since the last call, or 0.
func (p *processes) suspendedBy(target int) syscall.Signal {
	if p.terminal == nil {
		return 0
	}
	if p.guard != nil {
		return p.guard.SuspendedBy(target)
	}
	return process.SuspendedBy(target)
}

// answerSuspension acts on a signal that has suspended the target, and describes what it did.
func (p *processes) answerSuspension(target int, sig syscall.Signal) (what string) {
	switch p.terminal.Suspended(target, sig) {
	case terminal.Hangup:
		_ = p.SignalGroup(unix.SIGHUP)
		_ = p.SignalGroup(unix.SIGCONT)
		return "HUP and CONT: no process can give it the terminal"
	case terminal.Continue:
		_ = p.SignalGroup(unix.SIGCONT)
		return "CONT"
	case terminal.SuspendToo:
		p.suspendSelf(sig)
		return "suspending graceful"
	}
	return "nothing"
}

// suspend takes the foreground back, and suspends the process that the shell started.
func (p *processes) suspend() {
	p.terminal.TakeForeground(p.Leader())
	p.suspendSelf(0)
}

// continued gives the foreground back to the target after graceful was continued.
func (p *processes) continued(target int) {
	if p.guard != nil {
		p.guard.ContinueAtEnd(false)
	}
	p.terminal.Continued(target)
}

// reclaimTerminal handles a signal by which the terminal's user asks graceful to take the foreground back. It reports
// whether sig was one.
func (p *processes) reclaimTerminal(target int, sig syscall.Signal) bool {
	return p.terminal.Reclaim(target, sig)
}

// targetEnded takes the foreground back. If Ctrl-C has ended the target, it ends the other members of graceful's group,
// too.
func (p *processes) targetEnded(r Run) {
	back := p.terminal.Restore(r.Target.PID)
	sig := syscall.Signal(r.Target.Ending.Signal)
	if back && r.Stop.Signal == 0 && (sig == unix.SIGINT || sig == unix.SIGQUIT) {
		p.terminal.SignalOthers(sig, unix.Getpid())
	}
}

// predecessorEnded takes the foreground back for the other members of the group of a graceful that was killed. They
// still wait. If there are none, the shell takes the foreground, and is setting the terminal modes at this moment.
func (p *processes) predecessorEnded(target int) {
	if p.terminal.HasOthers(unix.Getpid()) {
		p.terminal.Restore(target)
	}
}

// newPolicy returns a policy for pty. The reader of the target's output has as much time as a deadline leaves.
func newPolicy(pty *terminal.PTY, c Config) terminal.Policy {
	patience := time.Duration(0)
	if c.Deadline > 0 {
		patience = c.Patience()
	}
	return terminal.NewPolicy(pty, patience)
}

// relayRest starts to relay the rest of the target's output. A run that is being stopped does not wait for that.
func (p *processes) relayRest(r Run, stopping bool) <-chan struct{} {
	return p.pty.RelayRest(stopping || r.Stop.TimedOut || r.Stop.PeerEnded)
}
