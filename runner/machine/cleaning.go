package machine

import "graceful/cleanup"

// This file runs commands, at a stop and at the end: it claims, limits and ends them.

// Errors of commands that were started.
const (
	wasInterrupted = "it was interrupted"
	wasUnseen      = "it ended, and nobody knows how"
)

// clean starts the next cleanup commands, or ends the run when none is left.
func (d *decision) clean() {
	if d.State < Cleaning {
		d.do(stopTimers(0, GraceTimer, TimeoutTimer, DeadlineTimer)...)
		if d.Policy.PTY {
			d.State, d.Cleanup.Relaying = Cleaning, true
			d.do(RelayRest{})
			return
		}
	}
	d.State, d.Cleanup.Relaying, d.Cleanup.Clearing = Cleaning, false, false
	d.startNext(cleanup.AtExit)
	if len(d.Cleanup.Running(cleanup.AtExit)) == 0 {
		d.State = Done
	}
}

// startNext claims and starts the next commands. It reports whether there are any.
func (d *decision) startNext(when cleanup.When) bool {
	var claimed []int
	d.Cleanup.Stack, claimed = d.Cleanup.Claim(when)
	d.startCommands(claimed...)
	return len(claimed) > 0
}

// startCommands starts claimed commands. Each limit timer starts first, so that a command that cannot be started stops
// it.
func (d *decision) startCommands(claimed ...int) {
	for _, id := range claimed {
		c, _ := d.Cleanup.Get(id)
		limit, _ := d.Policy.commandTimes(c.Command.Limit)
		d.do(startTimer{Timer{LimitTimer, id}, limit}, StartCommand{id})
	}
}

func (d *decision) commandFailed(e CommandFailed) {
	switch c, _ := d.Cleanup.Get(e.ID); {
	case !d.isClaimed(e.ID) || c.PID != 0:
	case e.Transient:
		d.do(startTimer{Timer{RetryTimer, e.ID}, RetryAfter})
	default:
		d.finish(e.ID, cleanup.Outcome{Error: string(e.Err)})
	}
}

func (d *decision) commandEnded(e CommandEnded) {
	switch {
	case !d.isClaimed(e.ID):
	case e.Unseen:
		d.finish(e.ID, cleanup.Outcome{Error: wasUnseen, Unseen: true})
	default:
		d.finish(e.ID, cleanup.Outcome{Code: e.Ending.Code, Signal: e.Ending.Signal})
	}
}

// finish ends a command with an outcome, and kills what it left behind. A parallel command kills only its own
// descendants; after the last one the whole tree is killed. The next command waits for that.
func (d *decision) finish(id int, outcome cleanup.Outcome) {
	d.end(id, outcome)
	d.do(stopTimers(id, RetryTimer, LimitTimer, KillTimer, AbandonTimer)...)
	c, _ := d.Cleanup.Get(id)
	if c.PID != 0 {
		d.do(KillCommand{id})
	}
	switch {
	case c.When == cleanup.AtStop && d.State == Stopping:
		d.nextOnStop()
	case c.When == cleanup.AtExit && d.State == Cleaning && len(d.Cleanup.Running(cleanup.AtExit)) == 0:
		d.Cleanup.Clearing = true
		d.do(KillTree{})
	}
}

// commandTimer handles the end of a timer of a claimed command.
func (d *decision) commandTimer(e CommandTimer) {
	c, _ := d.Cleanup.Get(e.ID)
	switch e.Name {
	case RetryTimer:
		if c.PID == 0 && d.Starts(c.When) {
			d.do(StartCommand{e.ID})
		}
	case LimitTimer:
		d.update(e.ID, func(c *cleanup.Entry) { c.TimedOut = true })
		if c.PID == 0 {
			d.finish(e.ID, cleanup.Outcome{Error: "could not be started within its time limit"})
		} else {
			d.terminateCommand(c)
		}
	case KillTimer:
		d.killCommand(e.ID)
	case AbandonTimer:
		d.finish(e.ID, cleanup.Outcome{Error: "did not die of SIGKILL"})
	}
}

// cutShort terminates the running cleanup commands after a repeated stop signal; a further one kills them.
func (d *decision) cutShort() {
	for _, id := range d.Cleanup.Running(cleanup.AtExit) {
		c, _ := d.Cleanup.Get(id)
		switch {
		case c.PID == 0:
			d.update(id, func(c *cleanup.Entry) { c.Cut = true })
			d.finish(id, cleanup.Outcome{Error: "could not be started before a stop signal came again"})
		case c.Killed:
			continue
		case c.Cut || c.TimedOut:
			d.update(id, func(c *cleanup.Entry) { c.Killed = true })
			d.do(stopTimers(id, KillTimer)...)
			d.killCommand(id)
		default:
			d.update(id, func(c *cleanup.Entry) { c.Cut = true })
			d.do(stopTimers(id, LimitTimer)...)
			d.terminateCommand(c)
		}
		d.Cleanup.Cuts++
	}
}

// terminateCommand gives a command SIGTERM, and later SIGKILL.
func (d *decision) terminateCommand(c cleanup.Entry) {
	_, kill := d.Policy.commandTimes(c.Command.Limit)
	d.do(TerminateCommand{c.ID}, startTimer{Timer{KillTimer, c.ID}, kill})
}

// killCommand gives a command SIGKILL, and later gives it up.
func (d *decision) killCommand(id int) {
	d.do(KillCommand{id}, startTimer{Timer{AbandonTimer, id}, d.Policy.Patience()})
}

// retried makes interrupted cleanup commands pending again. Where no other work will lead to them, it starts the next
// one.
func (d *decision) retried() {
	restored := false
	for _, c := range d.Cleanup.Entries {
		if c.When == cleanup.AtExit && c.Progress == cleanup.Ended && c.Outcome.Interrupted {
			restored = true
			d.update(c.ID, func(c *cleanup.Entry) {
				*c = cleanup.Entry{ID: c.ID, When: c.When, Command: c.Command, Registration: c.Registration}
			})
		}
	}
	busy := d.Cleanup.Relaying || d.Cleanup.Clearing || len(d.Cleanup.Running(cleanup.AtExit)) > 0
	if restored && !busy && d.State >= Cleaning {
		d.clean()
	}
}

// isClaimed reports whether there is a command id that is claimed and has not ended.
func (r Run) isClaimed(id int) bool {
	c, ok := r.Cleanup.Get(id)
	return ok && c.Progress == cleanup.Claimed
}

// update changes the entry of the command id, which must exist.
func (d *decision) update(id int, change func(*cleanup.Entry)) {
	d.Cleanup.Stack = d.Cleanup.Update(id, change)
}

// end records the outcome of a command. It removes the pid of a command whose end graceful has not seen: another
// process may have that pid by now.
func (d *decision) end(id int, outcome cleanup.Outcome) {
	d.update(id, func(c *cleanup.Entry) {
		c.Progress, c.Outcome = cleanup.Ended, outcome
		if outcome.Unseen || outcome.Interrupted {
			c.PID, c.Start = 0, 0
		}
	})
}
