package runner

import (
	"time"

	"graceful/cleanup"
)

// How commands of the run are led, those at a stop and those at the end: the part of the machine that claims, limits
// and ends them.

const (
	// commandKillAfter is how long a command has between SIGTERM and SIGKILL.
	commandKillAfter = 2 * time.Second
	// abandonAfter is how long a process may take to die of SIGKILL. Only uninterruptible sleep, or another
	// user's process, takes longer, and then no waiting helps.
	abandonAfter = 10 * time.Second
	retryAfter   = 50 * time.Millisecond
)

// Errors of commands that were started.
const (
	wasInterrupted = "it was interrupted"
	wasUnseen      = "it ended, and nobody knows how"
)

// clean goes on with the cleanup commands, or ends the run when there is none left.
func clean(r coreRun) (coreRun, []action) {
	var todo []action
	if r.State < Cleaning {
		for _, name := range []timerName{graceTimer, timeoutTimer, deadlineTimer} {
			todo = append(todo, stopTimer{timer{Name: name}})
		}
		if r.Policy.PTY {
			r.State, r.Cleanup.Relaying = Cleaning, true
			return r, append(todo, relayRest{})
		}
	}
	r.State, r.Cleanup.Relaying, r.Cleanup.Clearing = Cleaning, false, false
	var claimed []int
	r.Cleanup.Stack, claimed = r.Cleanup.Claim(cleanup.AtExit)
	if len(claimed) == 0 && len(r.Cleanup.Running(cleanup.AtExit)) == 0 {
		r.State = Done
		return r, todo
	}
	return r, append(todo, r.begin(claimed)...)
}

// begin starts commands that have been claimed.
func (r coreRun) begin(claimed []int) (todo []action) {
	for _, id := range claimed {
		c, _ := r.Cleanup.Get(id)
		limit, _ := r.Policy.allowance(c.Command.Limit)
		// The timer first: a command that cannot be started stops it.
		todo = append(todo, startTimer{timer{limitTimer, id}, limit}, startCommand{id})
	}
	return todo
}

func (r coreRun) claimed(id int) bool {
	c, ok := r.Cleanup.Get(id)
	return ok && c.Progress == cleanup.Claimed
}

// forget drops a command's pid, which may be another process's by now.
func (r coreRun) forget(id int) coreRun {
	r.Cleanup.Stack = r.Cleanup.Update(id, func(c *cleanup.Entry) { c.PID, c.Start = 0, 0 })
	return r
}

// commandEnded takes a command's outcome. What it started goes with it; the next one waits for that. Of commands
// in parallel each takes its own group with it, and the last one all that has left the groups.
func (r coreRun) commandEnded(id int, o cleanup.Outcome) (coreRun, []action) {
	r.Cleanup.Stack = r.Cleanup.Update(id, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, o })
	var todo []action
	for _, name := range []timerName{retryTimer, limitTimer, killTimer, abandonTimer} {
		todo = append(todo, stopTimer{timer{name, id}})
	}
	c, _ := r.Cleanup.Get(id)
	if c.PID != 0 {
		todo = append(todo, killCommand{id})
	}
	switch {
	case c.When == cleanup.AtStop && r.State == Stopping:
		r, more := r.notify()
		return r, append(todo, more...)
	case c.When == cleanup.AtExit && r.State == Cleaning && len(r.Cleanup.Running(cleanup.AtExit)) == 0:
		r.Cleanup.Clearing = true
		todo = append(todo, killTree{})
	}
	return r, todo
}

func (r coreRun) commandTimer(e commandTimer) (coreRun, []action) {
	c, _ := r.Cleanup.Get(e.id)
	switch e.name {
	case retryTimer:
		if c.PID == 0 && r.starts(c.When) {
			return r, []action{startCommand{e.id}}
		}
	case limitTimer:
		r.Cleanup.Stack = r.Cleanup.Update(e.id, func(c *cleanup.Entry) { c.TimedOut = true })
		if c.PID == 0 {
			return r.commandEnded(e.id, cleanup.Outcome{Error: "could not be started within its time limit"})
		}
		return r, r.end(c)
	case killTimer:
		return r, []action{killCommand{e.id}, startTimer{timer{abandonTimer, e.id}, r.Policy.patience()}}
	case abandonTimer:
		return r.commandEnded(e.id, cleanup.Outcome{Error: "did not die of SIGKILL"})
	}
	return r, nil
}

// end asks a command to end.
func (r coreRun) end(c cleanup.Entry) []action {
	_, kill := r.Policy.allowance(c.Command.Limit)
	return []action{terminateCommand{c.ID}, startTimer{timer{killTimer, c.ID}, kill}}
}

// cut ends the cleanup commands that run now, because somebody does not want to wait for them; who asks again once
// more has them killed.
func (r coreRun) cut() (coreRun, []action) {
	var todo []action
	for _, id := range r.Cleanup.Running(cleanup.AtExit) {
		c, _ := r.Cleanup.Get(id)
		switch {
		case c.PID == 0:
			r.Cleanup.Stack = r.Cleanup.Update(id, func(c *cleanup.Entry) { c.Cut = true })
			var more []action
			r, more = r.commandEnded(id, cleanup.Outcome{Error: "could not be started before a stop signal came again"})
			todo = append(todo, more...)
		case c.Killed:
			continue
		case c.Cut || c.TimedOut:
			r.Cleanup.Stack = r.Cleanup.Update(id, func(c *cleanup.Entry) { c.Killed = true })
			todo = append(todo, killCommand{id}, stopTimer{timer{killTimer, id}}, startTimer{timer{abandonTimer, id}, r.Policy.patience()})
		default:
			r.Cleanup.Stack = r.Cleanup.Update(id, func(c *cleanup.Entry) { c.Cut = true })
			todo = append(append(todo, stopTimer{timer{limitTimer, id}}), r.end(c)...)
		}
		r.Cleanup.Cuts++
	}
	return r, todo
}

// retried gives the commands that were lost back to be run.
func (r coreRun) retried() (coreRun, []action) {
	lost := false
	for _, c := range r.Cleanup.Entries {
		if c.Progress == cleanup.Ended && c.Outcome.Interrupted {
			lost = true
			r.Cleanup.Stack = r.Cleanup.Update(c.ID, func(c *cleanup.Entry) {
				*c = cleanup.Entry{ID: c.ID, When: c.When, Command: c.Command, Registration: c.Registration}
			})
		}
	}
	if !lost || r.State < Cleaning || r.Cleanup.Relaying || r.Cleanup.Clearing || len(r.Cleanup.Running(cleanup.AtExit)) > 0 {
		return r, nil // they come in their turn
	}
	return clean(r)
}
