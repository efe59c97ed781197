package runner

import (
	"log/slog"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/machine"
)

// logEvent logs an event before the machine handles it. It also maintains startTimes and runTimes of the announcer.
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
			log.Info("awaited process ended", "process", c.Awaited.PID)
		}
	case machine.CommandStarted:
		l.announcer.startTimes[e.ID] = time.Now()
		log := logCommand(l.log, l.command(e.ID))
		log.Info("cleanup command started", "pid", e.PID)
		if output := e.Discarded.Names(); len(output) > 0 {
			log.Warn("output of cleanup command discarded", "output", output, "err", "it has no reader any more")
		}
	case machine.CommandFailed:
		if log := logCommand(l.log, l.command(e.ID)); !e.Transient {
			l.logOver(e.ID)
			log.Warn("cleanup command not started", "err", e.Err, "hint", l.delayHint(e.ID, e.Unstarted))
		}
	case machine.CommandEnded:
		l.logOver(e.ID)
		l.logCommandEnded(e)
		delete(l.announcer.startTimes, e.ID)
		delete(l.announcer.runTimes, e.ID)
	case machine.CommandTimer:
		c := l.command(e.ID)
		if began, known := l.announcer.startTimes[e.ID]; known && e.Name == machine.LimitTimer {
			l.announcer.runTimes[e.ID] = time.Since(began)
		}
		switch log := logCommand(l.log, c); {
		case e.Name == machine.AbandonTimer:
			l.logOver(e.ID)
			log.Warn("cleanup command abandoned", "err", "SIGKILL did not end it")
		case e.Name == machine.LimitTimer && c.PID == 0:
			l.logOver(e.ID)
			log.Warn("cleanup command not started", "limit", c.Command.Limit, "err", "its time limit is over",
				"hint", l.delayHint(e.ID, true))
		}
	}
}

// runsAlone reports whether cleanup commands run one at a time now: cleanup has begun, and the order is not parallel.
// CI annotations are made from records at level Debug, and group only the output of commands that run alone.
func (l *loop) runsAlone() bool {
	return l.run.State >= machine.Cleaning && l.run.Policy.Order != cleanup.Parallel
}

// logOver logs, for CI annotations, that a command is over. The message about the outcome of the command follows.
func (l *loop) logOver(id int) {
	if l.runsAlone() {
		log := logCommand(l.log, l.command(id))
		log.Debug("cleanup command is over", "run", l.run.ID)
	}
}

// delayHint returns a hint that a command that could not be started will be tried again (cleanup.Entry.Delayed), or ""
// if it will not. unstarted means that a directory or a resource was missing.
func (l *loop) delayHint(id int, unstarted bool) string {
	delayed := l.run.Policy.UnstartedDelayed && l.run.State < machine.Cleaning
	if unstarted && delayed && l.command(id).When == cleanup.AtExit {
		return "it is tried again when cleanup begins"
	}
	return ""
}

func (l *loop) logCommandEnded(e machine.CommandEnded) {
	c := l.command(e.ID)
	switch log := logCommand(l.log, c); {
	case e.Unseen:
		log.Warn("end of cleanup command not seen", "err", "another process of graceful started it")
	case c.Cut:
		log.Warn("cleanup command terminated", "err", "a stop signal came again")
	case c.TimedOut:
		l.logTimedOut(log, c)
	case e.Ending != machine.Ending{}:
		log = logEnding(log, e.Ending)
		log.Warn("cleanup command failed")
	default:
		log.Info("cleanup command succeeded")
	}
}

// logTimedOut logs that a command has run too long, and the limit that applied. With a deadline, the limit that
// applied may be less than the limit of the command.
func (l *loop) logTimedOut(log *slog.Logger, c cleanup.Entry) {
	had, known := l.announcer.runTimes[c.ID]
	switch own := c.Command.Limit; {
	case !known || had >= own || !l.run.Stop.DeadlineStarted:
		log.Warn("cleanup command timed out", "limit", own)
	case l.run.Config.DeadlineFromOuter:
		log.Warn("cleanup command timed out", "limit", own, "after", had.Round(time.Millisecond),
			"err", "the outer run allows no more")
	default:
		log.Warn("cleanup command timed out", "limit", own, "after", had.Round(time.Millisecond),
			"err", "the deadline of "+l.run.Config.Deadline.String()+" leaves no more")
	}
}

// logTimeUp logs what happens because a timer of the run has ended. It does not log a SIGKILL, which logKilled logs.
func (l *loop) logTimeUp(name machine.TimerName) {
	switch config := l.run.Config; {
	case name == machine.TimeoutTimer:
		l.log.Warn("stopping the run", "timeout", config.Timeout, "err", "the time limit is over")
	case name == machine.DrainTimer:
		l.log.Info("drained")
	case name == machine.GraceTimer && l.run.Stop.Step < len(config.Steps()):
		l.log.Info("next step of the stop schedule")
	}
}

// logCommand adds the attributes of a command to a logger. The attribute when=stop marks an on-stop command, as in the
// report.
func logCommand(log *slog.Logger, c cleanup.Entry) *slog.Logger {
	log = log.With("id", c.ID)
	if c.When == cleanup.AtStop {
		log = log.With("when", "stop")
	}
	if c.Name != "" { // do not log the command, which may hold a secret: see cleanup.Entry.Shown
		return log.With("name", c.Name)
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
