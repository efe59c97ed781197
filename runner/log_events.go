package runner

import (
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
		l.log.Info("target started", "pid", e.PID, "command", l.run.Config.Command)
	case machine.TargetEnded:
		log := logEnding(l.log, e.Ending)
		log.Info("target ended")
	case machine.Signalled:
		l.log.Info("received signal", "signal", forward.Name(syscall.Signal(e.Signal)), "state", l.run.State.String())
	case machine.TimeUp:
		l.logTimeUp(e.Name)
	case machine.ProcessExited:
		if c := l.command(e.ID); c.Progress == cleanup.Pending {
			log := logCommand(l.log, c)
			log.Info("awaited process ended", "process", c.Exits.PID)
		}
	case machine.CommandStarted:
		log := logCommand(l.log, l.command(e.ID))
		log.Info("cleanup command started", "pid", e.PID)
	case machine.CommandFailed:
		if log := logCommand(l.log, l.command(e.ID)); !e.Transient {
			log.Warn("cleanup command not started", "err", e.Err)
		}
	case machine.CommandEnded:
		l.logCommandEnded(e)
	case machine.CommandTimer:
		c := l.command(e.ID)
		switch log := logCommand(l.log, c); {
		case e.Name == machine.AbandonTimer:
			log.Warn("cleanup command abandoned", "err", "SIGKILL did not end it")
		case e.Name == machine.LimitTimer && c.PID == 0:
			log.Warn("cleanup command not started", "limit", c.Command.Limit, "err", "its time limit is over")
		}
	}
}

func (l *loop) logCommandEnded(e machine.CommandEnded) {
	c := l.command(e.ID)
	switch log := logCommand(l.log, c); {
	case e.Unseen:
		log.Warn("end of cleanup command not seen", "err", "another process of graceful started it")
	case c.Cut:
		log.Warn("cleanup command terminated", "err", "a stop signal came again")
	case c.TimedOut:
		log.Warn("cleanup command timed out", "limit", c.Command.Limit)
	case e.Ending != machine.Ending{}:
		log = logEnding(log, e.Ending)
		log.Warn("cleanup command failed")
	default:
		log.Info("cleanup command succeeded")
	}
}

// logTimeUp logs what the end of a timer of the run causes.
func (l *loop) logTimeUp(name machine.TimerName) {
	switch config := l.run.Config; {
	case name == machine.TimeoutTimer:
		l.log.Warn("stopping the run", "timeout", config.Timeout, "err", "the time limit is over")
	case name == machine.DrainTimer:
		l.log.Info("drained")
	case name == machine.DeadlineTimer:
		l.log.Warn("sending SIGKILL", "deadline", config.Deadline, "err", "it leaves no more time for the stop")
	case l.run.Stop.Step < len(config.Steps()):
		l.log.Info("next step of the stop schedule")
	case len(config.Schedule) > 0:
		l.log.Warn("sending SIGKILL", "err", "the stop schedule is over")
	case config.Grace == 0: // the user wanted no grace
		l.log.Info("sending SIGKILL", "grace", config.Grace)
	default:
		l.log.Warn("sending SIGKILL", "grace", config.Grace, "err", "the grace ran out")
	}
}

// logCommand adds the attributes of a command to a logger. when=stop marks an on-stop command, as in the report.
func logCommand(log *slog.Logger, c cleanup.Entry) *slog.Logger {
	log = log.With("id", c.ID)
	if c.When == cleanup.AtStop {
		log = log.With("when", "stop")
	}
	if c.Name != "" {
		log = log.With("name", c.Name)
	}
	return log.With("command", c.Command.Text)
}

// logEnding adds the signal or the exit status of a process to a logger.
func logEnding(log *slog.Logger, e machine.Ending) *slog.Logger {
	if e.Signal != 0 {
		return log.With("signal", forward.Name(syscall.Signal(e.Signal)))
	}
	return log.With("status", e.Code)
}
