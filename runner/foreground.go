package runner

import (
	"log/slog"
	"syscall"
	"time"

	"graceful/forward"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/terminal"

	"golang.org/x/sys/unix"
)

// jobControl is the state of job control in this process. A shell suspends and continues graceful in the place of the
// target, so it must see of graceful what it would see of the target.
type jobControl struct {
	terminal  *terminal.Terminal // nil: the run has no controlling terminal
	suspended bool               // this process has asked the front to suspend graceful's group
}

func (j *jobControl) open(group int) { j.terminal = terminal.Open(group) }

// suspendUs suspends this process; by a signal of the terminal, its whole group. by is 0 if it was no such signal.
func (j *jobControl) suspendUs(by syscall.Signal) {
	if by == 0 || j.terminal == nil {
		_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
		return
	}
	j.terminal.Suspend(by)
}

// seeStop handles a signal that has suspended the target. After a signal that graceful forwarded, the loop suspends
// graceful itself (stopAt).
func (l *loop) seeSuspension() {
	if l.run.Target.Ended || l.run.Target.PID == 0 || l.run.State >= machine.Killing {
		return
	}
	sig := l.sys.stopped(l.run.Target.PID)
	if sig == 0 || !l.suspendAt.IsZero() {
		return
	}
	what := l.sys.answerStop(l.run.Target.PID, sig)
	l.log.Info("the target was stopped by "+forward.Name(sig), "then", what)
}

func (p *processes) stopped(target int) syscall.Signal {
	if p.jobs.terminal == nil {
		return 0
	}
	return process.SuspendedBy(target)
}

func (p *processes) answerStop(target int, sig syscall.Signal) (what string) {
	switch p.jobs.terminal.Suspended(target, sig) {
	case terminal.Hangup:
		_ = p.tree.SignalGroup(unix.SIGHUP)
		_ = p.tree.SignalGroup(unix.SIGCONT)
		return "HUP and CONT, since nobody can give it the terminal"
	case terminal.Continue:
		_ = p.tree.SignalGroup(unix.SIGCONT)
		return "CONT"
	case terminal.SuspendToo:
		p.suspendFront(sig)
		return "stopping ourselves"
	}
	return "nothing"
}

// suspend suspends the process that the user knows.
func (p *processes) suspend() {
	p.jobs.terminal.TakeForeground(p.tree.Leader())
	p.suspendFront(0)
}

// suspendFront suspends the front. The supervisor keeps running, because it must notice the front's death. It sends
// nothing to a front that is suspended already: the front would find the message when it continues.
func (p *processes) suspendFront(by syscall.Signal) {
	switch {
	case p.front == 0:
		p.pty.Pause()
		p.jobs.suspendUs(by)
	case !p.jobs.suspended:
		p.jobs.suspended = send(p.link, stopping, int(by)) == nil
	}
}

func (p *processes) continued(target int) {
	p.jobs.suspended = false
	p.jobs.terminal.Continued(target)
}

func (p *processes) terminalWanted(target int, sig syscall.Signal) bool {
	return p.jobs.terminal.Reclaim(target, sig)
}

// targetGone takes the foreground back. If Ctrl-C has ended the target, it ends the other members of graceful's group,
// too. A front that is suspended continues: the target will not.
func (p *processes) targetGone(r Run) {
	back := p.jobs.terminal.Restore(r.Target.PID)
	if sig := syscall.Signal(r.Target.Ending.Signal); back && r.Stop.Signal == 0 && (sig == unix.SIGINT || sig == unix.SIGQUIT) {
		p.jobs.terminal.SignalOthers(sig, p.userPID())
	}
	if p.jobs.suspended && unix.Getppid() == p.front {
		p.jobs.suspended = false
		_ = unix.Kill(p.front, unix.SIGCONT)
	}
}

// frontGone takes the foreground back for the other members of the front's group, which still wait. If there are none,
// the shell has the foreground and is setting the modes just now.
func (p *processes) frontGone(target int) {
	if p.jobs.terminal.HasOthers(p.front) {
		p.jobs.terminal.Restore(target)
	}
}

// openPTY opens a terminal of the target's own, if the run is to have one (--pty).
func openPTY(c Config, log *slog.Logger) (*terminal.PTY, error) {
	if !c.PTY {
		return nil, nil
	}
	return terminal.OpenPTY(log)
}

// newPolicy gives the reader of the target's output as much time as a deadline leaves.
func newPolicy(pty *terminal.PTY, c Config) terminal.Policy {
	patience := time.Duration(0)
	if c.Deadline > 0 {
		patience = c.Patience()
	}
	return terminal.NewPolicy(pty, patience)
}

// relayRest has the rest of the target's output relayed. A run that is being stopped does not wait for it at its end.
func (p *processes) relayRest(r Run, stopping bool) <-chan struct{} {
	return p.pty.RelayRest(stopping || r.Stop.TimedOut || r.Stop.Orphaned)
}
