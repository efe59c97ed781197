package machine

import (
	"time"

	"graceful/cleanup"
)

// How commands of the run are led, those at a stop and those at the end: the part of the machine that claims, limits
// and ends them.

const (
	// commandKillAfter is how long a command has between SIGTERM and SIGKILL.
	CommandKillAfter = 2 * time.Second
	// abandonAfter is how long a process may take to die of SIGKILL. Only uninterruptible sleep, or another
	// user's process, takes longer, and then no waiting helps.
	AbandonAfter = 10 * time.Second
	RetryAfter   = 50 * time.Millisecond
)

// Errors of commands that were started.
const (
	wasInterrupted = "it was interrupted"
	wasUnseen      = "it ended, and nobody knows how"
)

// clean goes on with the cleanup commands, or ends the run when there is none left.
func clean(r Run) (Run, []Action) {
	var todo []Action
	if r.State < Cleaning {
		for _, name := range []TimerName{GraceTimer, TimeoutTimer, DeadlineTimer} {
			todo = append(todo, stopTimer{Timer{Name: name}})
		}
		if r.Policy.PTY {
			r.State, r.Cleanup.Relaying = Cleaning, true
			return r, append(todo, RelayRest{})
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
func (r Run) begin(claimed []int) (todo []Action) {
	for _, id := range claimed {
		c, _ := r.Cleanup.Get(id)
		limit, _ := r.Policy.allowance(c.Command.Limit)
		// The timer first: a command that cannot be started stops it.
		todo = append(todo, startTimer{Timer{LimitTimer, id}, limit}, StartCommand{id})
	}
	return todo
}

func (r Run) claimed(id int) bool {
	c, ok := r.Cleanup.Get(id)
	return ok && c.Progress == cleanup.Claimed
}

// forget drops a command's pid, which may be another process's by now.
func (r Run) forget(id int) Run {
	r.Cleanup.Stack = r.Cleanup.Update(id, func(c *cleanup.Entry) { c.PID, c.Start = 0, 0 })
	return r
}

// commandEnded takes a command's outcome. What it started goes with it; the next one waits for that. Of commands
// in parallel each takes its own group with it, and the last one all that has left the groups.
func (r Run) commandEnded(id int, o cleanup.Outcome) (Run, []Action) {
	r.Cleanup.Stack = r.Cleanup.Update(id, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, o })
	var todo []Action
	for _, name := range []TimerName{RetryTimer, LimitTimer, KillTimer, AbandonTimer} {
		todo = append(todo, stopTimer{Timer{name, id}})
	}
	c, _ := r.Cleanup.Get(id)
	if c.PID != 0 {
		todo = append(todo, KillCommand{id})
	}
	switch {
	case c.When == cleanup.AtStop && r.State == Stopping:
		r, more := r.notify()
		return r, append(todo, more...)
	case c.When == cleanup.AtExit && r.State == Cleaning && len(r.Cleanup.Running(cleanup.AtExit)) == 0:
		r.Cleanup.Clearing = true
		todo = append(todo, KillTree{})
	}
	return r, todo
}

func (r Run) commandTimer(e CommandTimer) (Run, []Action) {
	c, _ := r.Cleanup.Get(e.ID)
	switch e.Name {
	case RetryTimer:
		if c.PID == 0 && r.Starts(c.When) {
			return r, []Action{StartCommand{e.ID}}
		}
	case LimitTimer:
		r.Cleanup.Stack = r.Cleanup.Update(e.ID, func(c *cleanup.Entry) { c.TimedOut = true })
		if c.PID == 0 {
			return r.commandEnded(e.ID, cleanup.Outcome{Error: "could not be started within its time limit"})
		}
		return r, r.end(c)
	case KillTimer:
		return r, []Action{KillCommand{e.ID}, startTimer{Timer{AbandonTimer, e.ID}, r.Policy.Patience()}}
	case AbandonTimer:
		return r.commandEnded(e.ID, cleanup.Outcome{Error: "did not die of SIGKILL"})
	}
	return r, nil
}

// end asks a command to end.
func (r Run) end(c cleanup.Entry) []Action {
	_, kill := r.Policy.allowance(c.Command.Limit)
	return []Action{TerminateCommand{c.ID}, startTimer{Timer{KillTimer, c.ID}, kill}}
}

// cut ends the cleanup commands that run now, because somebody does not want to wait for them; who asks again once
// more has them killed.
func (r Run) cutShort() (Run, []Action) {
	var todo []Action
	for _, id := range r.Cleanup.Running(cleanup.AtExit) {
		c, _ := r.Cleanup.Get(id)
		switch {
		case c.PID == 0:
			r.Cleanup.Stack = r.Cleanup.Update(id, func(c *cleanup.Entry) { c.Cut = true })
			var more []Action
			r, more = r.commandEnded(id, cleanup.Outcome{Error: "could not be started before a stop signal came again"})
			todo = append(todo, more...)
		case c.Killed:
			continue
		case c.Cut || c.TimedOut:
			r.Cleanup.Stack = r.Cleanup.Update(id, func(c *cleanup.Entry) { c.Killed = true })
			todo = append(todo, KillCommand{id}, stopTimer{Timer{KillTimer, id}}, startTimer{Timer{AbandonTimer, id}, r.Policy.Patience()})
		default:
			r.Cleanup.Stack = r.Cleanup.Update(id, func(c *cleanup.Entry) { c.Cut = true })
			todo = append(append(todo, stopTimer{Timer{LimitTimer, id}}), r.end(c)...)
		}
		r.Cleanup.Cuts++
	}
	return r, todo
}

// retried gives the commands that were lost back to be run.
func (r Run) retried() (Run, []Action) {
	lost := false
	for _, c := range r.Cleanup.Entries {
		if c.When == cleanup.AtExit && c.Progress == cleanup.Ended && c.Outcome.Interrupted {
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
