package runner

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/machine"
)

// logEvent logs an event before the machine decides on it.
func (l *loop) logEvent(e machine.Event) {
	switch e := e.(type) {
	case machine.TargetStarted:
		l.log.Info("started", "pid", e.PID, "command", l.run.Config.Command)
	case machine.TargetEnded:
		l.log.Info("the target ended", "how", endingText(e.Ending))
	case machine.Signalled:
		l.log.Info("received "+forward.Name(syscall.Signal(e.Signal)), "state", l.run.State.String())
	case machine.TimeUp:
		l.logTimeUp(e.Name)
	case machine.Exited:
		if c := l.command(e.ID); c.Progress == cleanup.Pending {
			l.log.Info("process has ended", "pid", c.Exits.PID, "for", commandName(c))
		}
	case machine.CommandStarted:
		l.log.Info("started "+commandName(l.command(e.ID)), "pid", e.PID)
	case machine.CommandFailed:
		if !e.Transient {
			l.log.Warn(commandName(l.command(e.ID)), "err", e.Err)
		}
	case machine.CommandEnded:
		switch c := l.command(e.ID); {
		case e.Unseen:
			l.log.Warn(commandName(c), "err", "ended, and nobody knows how: it was not our child")
		case c.Cut:
			l.log.Warn(commandName(c), "err", "was ended: a stop signal came again")
		case c.TimedOut:
			l.log.Warn(commandName(c), "err", fmt.Sprintf("took longer than %v and was ended", c.Command.Limit))
		case e.Ending != machine.Ending{}:
			l.log.Warn(commandName(c), "err", endingText(e.Ending))
		default:
			l.log.Info(commandName(c) + " succeeded")
		}
	case machine.CommandTimer:
		switch c := l.command(e.ID); {
		case e.Name == machine.AbandonTimer:
			l.log.Warn(commandName(c), "err", "did not die of SIGKILL; going on without it")
		case e.Name == machine.LimitTimer && c.PID == 0:
			l.log.Warn(commandName(c), "err", fmt.Sprintf("could not be started within %v", c.Command.Limit))
		}
	}
}

// logTimeUp logs what the end of a timer of the run causes.
func (l *loop) logTimeUp(name machine.TimerName) {
	level := slog.LevelWarn
	switch config := l.run.Config; {
	case name == machine.TimeoutTimer:
		l.log.Warn("stopping the run", "err", fmt.Sprintf("its time limit of %v is over", config.Timeout))
	case name == machine.DrainTimer:
		l.log.Info("drained")
	case name == machine.DeadlineTimer:
		l.log.Warn("sending SIGKILL",
			"err", fmt.Sprintf("the deadline of %v leaves no more time for the stop", config.Deadline))
	case l.run.Stop.Step < len(config.Steps()):
		l.log.Info("next step of the stop schedule")
	case len(config.Schedule) > 0:
		l.log.Warn("sending SIGKILL", "err", "the stop schedule is over")
	default:
		if config.Grace == 0 { // the user wanted no grace
			level = slog.LevelInfo
		}
		l.log.Log(context.Background(), level, "sending SIGKILL",
			"err", fmt.Sprintf("the grace of %v ran out", config.Grace))
	}
}

// commandName names a command in messages.
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

// endingText describes how a process ended.
func endingText(e machine.Ending) string {
	if e.Signal != 0 {
		return "ended by SIG" + forward.Name(syscall.Signal(e.Signal))
	}
	return fmt.Sprintf("exit status %d", e.Code)
}
