package machine

import "graceful/cleanup"

// This file decides when commands start, how long they may run, and how they are ended, at a stop and at the end of the
// run.

// The errors of commands whose end is unknown.
const (
	interruptedError = "it was interrupted"
	unseenError      = "it ended; its exit status is unknown"
)

// clean begins or continues cleanup. In a run with a pty, it first relays the rest of the output. Then it starts the
// next cleanup commands. If no cleanup command is left or running, it ends the run.
func (d *decision) clean() {
	if d.State < Cleaning {
		d.emit(stopTimers(0, GraceTimer, TimeoutTimer, DeadlineTimer)...)
		if d.Policy.PTY {
			d.State, d.Cleanup.Relaying = Cleaning, true
			d.emit(RelayRest{})
			return
		}
	}
	d.State, d.Cleanup.Relaying, d.Cleanup.Clearing = Cleaning, false, false
	d.startNext(cleanup.AtExit)
	if len(d.Cleanup.Running(cleanup.AtExit)) == 0 {
		d.State = Done
		d.emit(stopTimers(0, SameStopTimer, BudgetTimer)...)
	}
}

// startNext claims and starts the next commands with this When. It reports whether there are any.
func (d *decision) startNext(when cleanup.When) bool {
	var claimed []int
	d.Cleanup.Commands, claimed = d.Cleanup.Claim(when)
	d.startCommands(claimed...)
	return len(claimed) > 0
}

// startCommands starts claimed commands. It starts each limit timer first, so that a failed start stops the timer.
func (d *decision) startCommands(claimed ...int) {
	for _, id := range claimed {
		c, _ := d.Cleanup.Get(id)
		d.emit(d.limitTimer(c), StartCommand{id})
	}
}

// limitTimer returns the action that limits the time of a command. Under an outer run's budget, a cleanup command gets
// SIGTERM after at most half of the remaining time. In any order but parallel, it gets SIGTERM after at most a third of
// that time if another cleanup command is pending or claimed, and after at most a quarter if several are.
func (r Run) limitTimer(c cleanup.Entry) startTimer {
	limit, _ := r.commandTimes(c.Command.Limit)
	t := timer(LimitTimer, c.ID, limit)
	if r.Policy.DeadlineFromOuter && c.When == cleanup.AtExit {
		t.share = 2
		if r.Policy.Order != cleanup.Parallel {
			t.share = 1 + min(r.unfinished(), 3)
		}
	}
	return t
}

// unfinished returns the number of cleanup commands that are pending or claimed.
func (r Run) unfinished() (n int) {
	for c := range r.Cleanup.Entries.All() {
		if c.When == cleanup.AtExit && c.Progress <= cleanup.Claimed {
			n++
		}
	}
	return n
}

// commandStarted records the process of a command. The limit timer starts again, because until now it limited the
// start. If the command has timed out, the timer does not start again.
func (d *decision) commandStarted(e CommandStarted) {
	if !d.isClaimed(e.ID) {
		return
	}
	d.update(e.ID, func(c *cleanup.Entry) { c.PID, c.Start, c.Discarded = e.PID, e.Start, e.Discarded })
	if c, _ := d.Cleanup.Get(e.ID); !c.TimedOut {
		d.emit(d.limitTimer(c))
	}
}

func (d *decision) commandFailed(e CommandFailed) {
	switch c, _ := d.Cleanup.Get(e.ID); {
	case !d.isClaimed(e.ID) || e.Transient && c.PID != 0:
	case e.Transient:
		d.emit(timer(RetryTimer, e.ID, RetryAfter))
	default:
		d.finish(e.ID, cleanup.Outcome{Error: string(e.Err), Unstarted: e.Unstarted})
	}
}

func (d *decision) commandEnded(e CommandEnded) {
	switch {
	case !d.isClaimed(e.ID):
	case e.Unseen:
		d.finish(e.ID, cleanup.Outcome{Error: unseenError, Unseen: true})
	default:
		d.finish(e.ID, cleanup.Outcome{Code: e.Ending.Code, Signal: e.Ending.Signal})
	}
}

// finish ends a command with an outcome. If the command has a pid, finish also kills the command's process group and
// descendants. After the last running cleanup command in Cleaning, finish kills the whole tree, and the next command
// waits for TreeEmptied. After an on-stop command in Stopping, finish calls nextOnStop at once. A command that could
// not be started does not end if delay makes the command pending again.
func (d *decision) finish(id int, outcome cleanup.Outcome) {
	d.emit(stopTimers(id, RetryTimer, LimitTimer, KillTimer, AbandonTimer)...)
	if outcome.Unstarted && d.delay(id) {
		return
	}
	d.end(id, outcome)
	c, _ := d.Cleanup.Get(id)
	if c.PID != 0 {
		d.emit(KillCommand{id})
	}
	switch {
	case c.When == cleanup.AtStop && d.State == Stopping:
		d.nextOnStop()
	case c.When == cleanup.AtExit && d.State == Cleaning && len(d.Cleanup.Running(cleanup.AtExit)) == 0:
		d.Cleanup.Clearing = true
		d.emit(KillTree{})
	}
}

// commandTimer handles the end of a timer of a claimed command.
func (d *decision) commandTimer(e CommandTimer) {
	c, _ := d.Cleanup.Get(e.ID)
	switch e.Name {
	case RetryTimer:
		if c.PID == 0 && d.MayStart(c.When) {
			d.emit(StartCommand{e.ID})
		}
	case LimitTimer:
		d.update(e.ID, func(c *cleanup.Entry) { c.TimedOut = true })
		if c.PID == 0 {
			d.finish(e.ID, cleanup.Outcome{Error: "could not be started within its time limit", Unstarted: true})
		} else {
			d.terminateCommand(c)
		}
	case KillTimer:
		d.killCommand(e.ID)
	case AbandonTimer:
		d.finish(e.ID, cleanup.Outcome{Error: "did not die of SIGKILL"})
	}
}

// cutShort handles a repeated stop signal in Cleaning with RepeatKill. It terminates each running cleanup command. If
// SIGTERM was sent to the command before, cutShort kills the command. A command that has no pid yet ends.
func (d *decision) cutShort() {
	for _, id := range d.Cleanup.Running(cleanup.AtExit) {
		c, _ := d.Cleanup.Get(id)
		switch {
		case c.PID == 0:
			d.update(id, func(c *cleanup.Entry) { c.Cut = true })
			d.finish(id, cleanup.Outcome{Error: "could not be started before a stop signal came again", Unstarted: true})
		case c.Killed:
			continue
		case c.Cut || c.TimedOut:
			d.update(id, func(c *cleanup.Entry) { c.Killed = true })
			d.emit(stopTimers(id, KillTimer)...)
			d.killCommand(id)
		default:
			d.update(id, func(c *cleanup.Entry) { c.Cut = true })
			d.emit(stopTimers(id, LimitTimer)...)
			d.terminateCommand(c)
		}
		d.Cleanup.Cuts++
	}
}

// terminateCommand sends SIGTERM to a command, and starts the timer for SIGKILL.
func (d *decision) terminateCommand(c cleanup.Entry) { d.emit(TerminateCommand{c.ID}, d.killTimer(c)) }

// killTimer returns the action that starts the kill timer of a command, for the time between SIGTERM and SIGKILL. Under
// an outer run's budget, that time is at most a quarter of the remaining time.
func (r Run) killTimer(c cleanup.Entry) startTimer {
	_, after := r.commandTimes(c.Command.Limit)
	t := timer(KillTimer, c.ID, after)
	if r.Policy.DeadlineFromOuter {
		t.share = 4
	}
	return t
}

// killCommand sends SIGKILL to a command, and starts the timer after which the run stops waiting for the command.
func (d *decision) killCommand(id int) { d.emit(KillCommand{id}, d.abandonTimer(id)) }

// abandonTimer returns the action that starts the abandon timer. At the end of that timer, the run stops waiting for a
// command that SIGKILL has not ended.
func (r Run) abandonTimer(id int) startTimer { return timer(AbandonTimer, id, r.Patience()) }

// retried makes the cleanup commands pending again whose outcome is Unstarted. If interrupted is true, it does so for
// interrupted commands, too. If cleanup has begun and no other event will start the next commands, retried starts them.
func (d *decision) retried(interrupted bool) {
	restored := false
	for c := range d.Cleanup.Entries.All() {
		again := c.Outcome.Unstarted || interrupted && c.Outcome.Interrupted
		if c.When == cleanup.AtExit && c.Progress == cleanup.Ended && again {
			restored = true
			d.restore(c.ID)
		}
	}
	busy := d.Cleanup.Relaying || d.Cleanup.Clearing || len(d.Cleanup.Running(cleanup.AtExit)) > 0
	if restored && !busy && d.State >= Cleaning {
		d.clean()
	}
}

// delay makes a command that could not be started pending again, and returns true. It returns false for an on-stop
// command, after cleanup has begun, and without Policy.UnstartedDelayed.
func (d *decision) delay(id int) bool {
	c, _ := d.Cleanup.Get(id)
	if !d.Policy.UnstartedDelayed || c.When != cleanup.AtExit || d.State >= Cleaning {
		return false
	}
	d.restore(id)
	d.update(id, func(c *cleanup.Entry) { c.Delayed = true })
	return true
}

// restore makes a command pending again, and removes everything that has changed in the entry since the registration.
func (d *decision) restore(id int) {
	d.update(id, func(c *cleanup.Entry) {
		*c = cleanup.Entry{ID: c.ID, When: c.When, Command: c.Command, Registration: c.Registration}
	})
}

// isClaimed reports whether the command id exists, is claimed, and has not ended.
func (r Run) isClaimed(id int) bool {
	c, ok := r.Cleanup.Get(id)
	return ok && c.Progress == cleanup.Claimed
}

// update changes the entry of the command id, which must exist.
func (d *decision) update(id int, change func(*cleanup.Entry)) {
	d.Cleanup.Commands = d.Cleanup.Update(id, change)
}

// end records the outcome of a command. If the outcome is Unseen or Interrupted, end removes the pid, because another
// process may have that pid by then.
func (d *decision) end(id int, outcome cleanup.Outcome) {
	d.update(id, func(c *cleanup.Entry) {
		c.Progress, c.Outcome = cleanup.Ended, outcome
		if outcome.Unseen || outcome.Interrupted {
			c.PID, c.Start = 0, 0
		}
	})
}
