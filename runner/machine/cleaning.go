package machine

import "graceful/cleanup"

// This file runs commands, at a stop and at the end: it claims, limits and ends them.

// Errors of commands that were started.
const (
	wasInterrupted = "it was interrupted"
	wasUnseen      = "it ended, and nobody knows how"
)

// clean starts the next cleanup commands, or ends the run when none is left.
func (r Run) clean(todo ...Action) (Run, []Action) {
	if r.State < Cleaning {
		todo = append(todo, stopTimers(0, GraceTimer, TimeoutTimer, DeadlineTimer)...)
		if r.Policy.PTY {
			r.State, r.Cleanup.Relaying = Cleaning, true
			return r, append(todo, RelayRest{})
		}
	}
	r.State, r.Cleanup.Relaying, r.Cleanup.Clearing = Cleaning, false, false
	r, start := r.startNext(cleanup.AtExit)
	if len(r.Cleanup.Running(cleanup.AtExit)) == 0 {
		r.State = Done
	}
	return r, append(todo, start...)
}

// startNext claims the next commands and returns the actions that start them.
func (r Run) startNext(when cleanup.When) (Run, []Action) {
	stack, claimed := r.Cleanup.Claim(when)
	r.Cleanup.Stack = stack
	return r, r.startCommands(claimed)
}

// startCommands returns the actions that start claimed commands. Each limit timer starts first, so that a command that
// cannot be started stops it.
func (r Run) startCommands(claimed []int) (todo []Action) {
	for _, id := range claimed {
		c, _ := r.Cleanup.Get(id)
		limit, _ := r.Policy.commandTimes(c.Command.Limit)
		todo = append(todo, startTimer{Timer{LimitTimer, id}, limit}, StartCommand{id})
	}
	return todo
}

func (r Run) commandFailed(e CommandFailed) (Run, []Action) {
	switch c, _ := r.Cleanup.Get(e.ID); {
	case !r.isClaimed(e.ID) || c.PID != 0:
		return r, nil
	case e.Transient:
		return r, []Action{startTimer{Timer{RetryTimer, e.ID}, RetryAfter}}
	}
	return r.finish(e.ID, cleanup.Outcome{Error: string(e.Err)})
}

func (r Run) commandEnded(e CommandEnded) (Run, []Action) {
	switch {
	case !r.isClaimed(e.ID):
		return r, nil
	case e.Unseen:
		return r.clearPID(e.ID).finish(e.ID, cleanup.Outcome{Error: wasUnseen, Unseen: true})
	}
	return r.finish(e.ID, cleanup.Outcome{Code: e.Ending.Code, Signal: e.Ending.Signal})
}

// finish ends a command with an outcome, and kills what it left behind. A parallel command kills only its own
// descendants; after the last one the whole tree is killed. The next command waits for that.
func (r Run) finish(id int, outcome cleanup.Outcome) (Run, []Action) {
	r = r.update(id, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, outcome })
	todo := stopTimers(id, RetryTimer, LimitTimer, KillTimer, AbandonTimer)
	c, _ := r.Cleanup.Get(id)
	if c.PID != 0 {
		todo = append(todo, KillCommand{id})
	}
	switch {
	case c.When == cleanup.AtStop && r.State == Stopping:
		return r.nextOnStop(todo...)
	case c.When == cleanup.AtExit && r.State == Cleaning && len(r.Cleanup.Running(cleanup.AtExit)) == 0:
		r.Cleanup.Clearing = true
		todo = append(todo, KillTree{})
	}
	return r, todo
}

// commandTimer handles the end of a timer of a claimed command.
func (r Run) commandTimer(e CommandTimer) (Run, []Action) {
	c, _ := r.Cleanup.Get(e.ID)
	switch e.Name {
	case RetryTimer:
		if c.PID == 0 && r.Starts(c.When) {
			return r, []Action{StartCommand{e.ID}}
		}
	case LimitTimer:
		r = r.update(e.ID, func(c *cleanup.Entry) { c.TimedOut = true })
		if c.PID == 0 {
			return r.finish(e.ID, cleanup.Outcome{Error: "could not be started within its time limit"})
		}
		return r, r.terminateCommand(c)
	case KillTimer:
		return r, r.killCommand(e.ID)
	case AbandonTimer:
		return r.finish(e.ID, cleanup.Outcome{Error: "did not die of SIGKILL"})
	}
	return r, nil
}

// cutShort terminates the running cleanup commands after a repeated stop signal; a further one kills them.
func (r Run) cutShort() (Run, []Action) {
	var todo []Action
	for _, id := range r.Cleanup.Running(cleanup.AtExit) {
		c, _ := r.Cleanup.Get(id)
		switch {
		case c.PID == 0:
			var more []Action
			r, more = r.markCut(id).finish(id, cleanup.Outcome{Error: "could not be started before a stop signal came again"})
			todo = append(todo, more...)
		case c.Killed:
			continue
		case c.Cut || c.TimedOut:
			r = r.update(id, func(c *cleanup.Entry) { c.Killed = true })
			todo = append(append(todo, stopTimers(id, KillTimer)...), r.killCommand(id)...)
		default:
			r = r.markCut(id)
			todo = append(append(todo, stopTimers(id, LimitTimer)...), r.terminateCommand(c)...)
		}
		r.Cleanup.Cuts++
	}
	return r, todo
}

// terminateCommand returns the actions that give a command SIGTERM, and later SIGKILL.
func (r Run) terminateCommand(c cleanup.Entry) []Action {
	_, kill := r.Policy.commandTimes(c.Command.Limit)
	return []Action{TerminateCommand{c.ID}, startTimer{Timer{KillTimer, c.ID}, kill}}
}

// killCommand returns the actions that give a command SIGKILL, and later give it up.
func (r Run) killCommand(id int) []Action {
	return []Action{KillCommand{id}, startTimer{Timer{AbandonTimer, id}, r.Policy.Patience()}}
}

// retried makes interrupted cleanup commands pending again. Where no other work will lead to them, it starts the next
// one.
func (r Run) retried() (Run, []Action) {
	restored := false
	for _, c := range r.Cleanup.Entries {
		if c.When == cleanup.AtExit && c.Progress == cleanup.Ended && c.Outcome.Interrupted {
			restored = true
			r = r.update(c.ID, func(c *cleanup.Entry) {
				*c = cleanup.Entry{ID: c.ID, When: c.When, Command: c.Command, Registration: c.Registration}
			})
		}
	}
	busy := r.Cleanup.Relaying || r.Cleanup.Clearing || len(r.Cleanup.Running(cleanup.AtExit)) > 0
	if !restored || busy || r.State < Cleaning {
		return r, nil
	}
	return r.clean()
}

// isClaimed reports whether there is a command id that is claimed and has not ended.
func (r Run) isClaimed(id int) bool {
	c, ok := r.Cleanup.Get(id)
	return ok && c.Progress == cleanup.Claimed
}

// update changes the entry of the command id, which must exist.
func (r Run) update(id int, change func(*cleanup.Entry)) Run {
	r.Cleanup.Stack = r.Cleanup.Update(id, change)
	return r
}

// clearPID removes a command's pid: another process may have it by now.
func (r Run) clearPID(id int) Run {
	return r.update(id, func(c *cleanup.Entry) { c.PID, c.Start = 0, 0 })
}

// markCut records that a repeated stop signal ended the command.
func (r Run) markCut(id int) Run {
	return r.update(id, func(c *cleanup.Entry) { c.Cut = true })
}
