package runner

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"

	"graceful/cleanup"
	"graceful/forward"
)

// What the loop says while it leads a run.

// tell logs what has happened, before the machine decides on it.
func (l *loop) tell(e event) {
	switch e := e.(type) {
	case targetStarted:
		l.log.Info("started", "pid", e.pid, "command", l.run.Config.Command)
	case targetEnded:
		l.log.Info("the target ended", "how", endingText(e.ending))
	case signalled:
		l.log.Info("received "+forward.Name(syscall.Signal(e.signal)), "state", l.run.State.String())
	case timeUp:
		l.tellTime(e.name)
	case exited:
		if c := l.command(e.id); c.Progress == cleanup.Pending {
			l.log.Info("process has ended", "pid", c.Exits.PID, "for", commandName(c))
		}
	case commandStarted:
		l.log.Info("started "+commandName(l.command(e.id)), "pid", e.pid)
	case commandFailed:
		if !e.transient {
			l.log.Warn(commandName(l.command(e.id)), "err", e.err)
		}
	case commandEnded:
		switch c := l.command(e.id); {
		case e.unseen:
			l.log.Warn(commandName(c), "err", "ended, and nobody knows how: it was not our child")
		case c.Cut:
			l.log.Warn(commandName(c), "err", "was ended: a stop signal came again")
		case c.TimedOut:
			l.log.Warn(commandName(c), "err", fmt.Sprintf("took longer than %v and was ended", c.Command.Limit))
		case e.ending != Ending{}:
			l.log.Warn(commandName(c), "err", endingText(e.ending))
		default:
			l.log.Info(commandName(c) + " succeeded")
		}
	case commandTimer:
		switch c := l.command(e.id); {
		case e.name == abandonTimer:
			l.log.Warn(commandName(c), "err", "did not die of SIGKILL; going on without it")
		case e.name == limitTimer && c.PID == 0:
			l.log.Warn(commandName(c), "err", fmt.Sprintf("could not be started within %v", c.Command.Limit))
		}
	}
}

// tellTime says what a timer of the run's means, before the machine decides on it.
func (l *loop) tellTime(name timerName) {
	level := slog.LevelWarn
	switch config := l.run.Config; {
	case name == timeoutTimer:
		l.log.Warn("stopping the run", "err", fmt.Sprintf("its time limit of %v is over", config.Timeout))
	case name == drainTimer:
		l.log.Info("drained")
	case name == deadlineTimer:
		l.log.Warn("sending SIGKILL", "err", fmt.Sprintf("the deadline of %v leaves no more time for the stop", config.Deadline))
	case l.run.Stop.Step < len(config.steps()):
		l.log.Info("next step of the stop schedule")
	case len(config.Schedule) > 0:
		l.log.Warn("sending SIGKILL", "err", "the stop schedule is over")
	default:
		if config.Grace == 0 { // it was asked for
			level = slog.LevelInfo
		}
		l.log.Log(context.Background(), level, "sending SIGKILL", "err", fmt.Sprintf("the grace of %v ran out", config.Grace))
	}
}

func commandName(c cleanup.Entry) string {
	kind, name := "cleanup", ""
	if c.When == cleanup.AtStop {
		kind = "on-stop"
	}
	if c.Name != "" {
		name = c.Name + ": "
	}
	return fmt.Sprintf("%s command %d (%s%s)", kind, c.ID, name, c.Command.Text)
}

func endingText(e Ending) string {
	if e.Signal != 0 {
		return "ended by SIG" + forward.Name(syscall.Signal(e.Signal))
	}
	return fmt.Sprintf("exit status %d", e.Code)
}
