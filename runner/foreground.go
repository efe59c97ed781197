package runner

import (
	"log/slog"
	"syscall"
	"time"

	"graceful/forward"
	"graceful/runner/terminal"

	"golang.org/x/sys/unix"
)

// Job control: what a shell would have done with the target, it does with us, and so it must see of us what it would have
// seen of the target.

// jobControl is what a process of ours knows of that.
type jobControl struct {
	terminal *terminal.Terminal // nil: there is none
	stopped  bool               // our group is, by us
}

func (j *jobControl) open(group int) { j.terminal = terminal.Open(group) }

// stopUs stops this process, by a signal of a terminal its whole group.
func (j *jobControl) stopUs(by syscall.Signal) {
	if by == 0 || j.terminal == nil {
		_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
		return
	}
	j.terminal.Stop(by)
}

// seeStop looks whether the target has been stopped. One that we have passed on ourselves stops us later.
func (l *loop) seeStop() {
	if l.run.Ended || l.run.TargetPID == 0 || l.run.State >= Killing {
		return
	}
	sig := l.sys.stopped(l.run.TargetPID)
	if sig == 0 || !l.stopAt.IsZero() {
		return
	}
	what := l.sys.answerStop(l.run.TargetPID, sig)
	l.log.Info("the target was stopped by "+forward.Name(sig), "then", what)
}

func (p *processes) stopped(target int) syscall.Signal {
	if p.jobs.terminal == nil {
		return 0
	}
	return stopOf(target)
}

func (p *processes) answerStop(target int, sig syscall.Signal) (what string) {
	switch p.jobs.terminal.Stopped(target, sig) {
	case terminal.Hangup:
		_ = p.tree.SignalGroup(unix.SIGHUP)
		_ = p.tree.SignalGroup(unix.SIGCONT)
		return "HUP and CONT, since nobody can give it the terminal"
	case terminal.Continue:
		_ = p.tree.SignalGroup(unix.SIGCONT)
		return "CONT"
	case terminal.StopToo:
		p.stopFront(sig)
		return "stopping ourselves"
	}
	return "nothing"
}

// suspend stops the process that the user knows.
func (p *processes) suspend() {
	p.jobs.terminal.Return(p.tree.Leader())
	p.stopFront(0)
}

// stopFront: a supervisor goes on itself; it has to hear of its front's death. A front that is stopped already would find
// the message when it goes on.
func (p *processes) stopFront(by syscall.Signal) {
	switch {
	case p.front == 0:
		p.pty.Pause()
		p.jobs.stopUs(by)
	case !p.jobs.stopped:
		p.jobs.stopped = send(p.link, stopping, int(by)) == nil
	}
}

func (p *processes) continued(target int) {
	p.jobs.stopped = false
	p.jobs.terminal.Continued(target)
}

func (p *processes) terminalWanted(target int, sig syscall.Signal) bool {
	return p.jobs.terminal.Wanted(target, sig)
}

// targetGone takes the terminal back. Ctrl-C ends the others of our group as well, when it has ended the target; and a
// front that is stopped has nothing to wait for any more.
func (p *processes) targetGone(r Run) {
	back := p.jobs.terminal.End(r.TargetPID)
	if sig := syscall.Signal(r.Ending.Signal); back && r.StopSignal == 0 && (sig == unix.SIGINT || sig == unix.SIGQUIT) {
		p.jobs.terminal.Signal(sig, p.userPID())
	}
	if p.jobs.stopped && unix.Getppid() == p.front {
		p.jobs.stopped = false
		_ = unix.Kill(p.front, unix.SIGCONT)
	}
}

// frontGone takes it back for those that the front's end has left waiting in its group. When there are none, whoever
// started the group has it again, and is setting its modes just now.
func (p *processes) frontGone(target int) {
	if p.jobs.terminal.Shared(p.front) {
		p.jobs.terminal.End(target)
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
		patience = c.patience()
	}
	return terminal.NewPolicy(pty, patience)
}

func (p *processes) relayRest(r Run, stopping bool) <-chan struct{} {
	return p.pty.RelayRest(stopping || r.TimedOut || r.Orphaned)
}
