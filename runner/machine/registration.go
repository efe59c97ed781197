package machine

import (
	"fmt"
	"time"

	"graceful/cleanup"
)

// This file adds commands to a running run, withdraws them, and starts them when the process that they wait for has
// ended.

const (
	// MaxCommands is the maximum number of cleanup commands and on-stop commands together in a run.
	MaxCommands = 1 << 16
	// MaxRegistered is the maximum total size of the records of all registrations, in bytes (cleanup.Entry.RecordSize).
	MaxRegistered = 64 << 20
)

// registered adds a command, or refuses it. A repeated request with the same key gets the id of the first one, unless
// the command of the first one was withdrawn.
func (d *decision) registered(e Registered) {
	if c, ok := d.Cleanup.Get(e.SameKeyID); ok && c.Key == e.Entry.Key && c.Key != "" && c.Progress != cleanup.Withdrawn {
		d.emit(Answer{ID: c.ID})
		return
	}
	was := d.Run
	d.Cleanup.Commands = d.Cleanup.Register(e.Entry)
	d.Cleanup.Recorded += e.Entry.RecordSize()
	id := d.Cleanup.Entries.Len()
	left := d.moveDeadline(was, e.Left)
	refusal := d.deadlineRefusal()
	switch {
	case d.State >= Cleaning:
		refusal = "cleanup has begun: no more commands can be registered"
	case !e.Replay && (id > MaxCommands || d.Cleanup.Recorded > MaxRegistered):
		refusal = fmt.Sprintf("the run has taken %d commands of %d bytes, and takes no more", id-1, was.Cleanup.Recorded)
	case refusal == "" && d.Stop.DeadlineStarted && left <= 0 && !d.Policy.DeadlineFromOuter:
		refusal = fmt.Sprintf("the deadline of %v leaves no %v for it: the stop has begun",
			d.Policy.Deadline, e.Entry.Command.Limit)
	}
	if refusal != "" {
		*d = decision{was, []Action{Answer{Refusal: refusal}}}
		return
	}
	d.emit(Answer{ID: id})
}

// deadlineRefusal returns the reason why the deadline is too short for a stop and the cleanup commands, or "".
func (r Run) deadlineRefusal() string {
	p := r.Policy
	if p.Deadline == 0 || p.DeadlineFromOuter {
		return ""
	}
	cleaning := r.cleaningTime()
	const format = "it does not fit under the deadline of %v: with it the cleanup commands may take %v, and "
	switch {
	case AddDurations(p.ReservedTime, cleaning) > p.Deadline:
		return fmt.Sprintf(format+"%v of the stop were asked for", p.Deadline, cleaning, p.ReservedTime)
	case r.StoppingTime()-p.TimeBeforeSignal <= 0:
		return fmt.Sprintf(format+"nothing is left for the target", p.Deadline, cleaning)
	}
	return ""
}

// moveDeadline moves the end of a running deadline timer after the time for the cleanup commands has changed. was is
// the run before that change, and left is the time until the old end. moveDeadline returns the time until the new end,
// which is negative for a time in the past, or 0 if no timer runs.
func (d *decision) moveDeadline(was Run, left time.Duration) time.Duration {
	if !d.Stop.DeadlineStarted || left <= 0 || d.State >= Cleaning {
		return 0
	}
	after := left + d.StoppingTime() - was.StoppingTime()
	if after != left {
		d.emit(timer(DeadlineTimer, 0, after))
	}
	return after
}

// withdrawn withdraws a command that is not claimed yet. Its id is never used again.
func (d *decision) withdrawn(e Withdrawn) {
	was, refusal := d.Run, ""
	if commands, ok := d.Cleanup.Withdraw(e.ID); ok {
		d.Cleanup.Commands = commands
		d.moveDeadline(was, e.Left)
	} else {
		refusal = d.withdrawalRefusal(e.ID)
	}
	d.emit(Answer{e.ID, refusal})
}

// withdrawalRefusal returns the reason why a command cannot be withdrawn.
func (r Run) withdrawalRefusal(id int) string {
	switch c, known := r.Cleanup.Get(id); {
	case !known:
		return "no command has that id"
	case c.When != cleanup.AtExit:
		return "it is an on-stop command"
	case c.Progress == cleanup.Claimed:
		return "too late: it has been started"
	}
	return "too late: it has ended"
}

// processExited starts a command when the process that it waits for has ended. After graceful has begun to end all
// members of the tree, processExited does not start the command. The command then runs with the other cleanup commands.
func (d *decision) processExited(id int) {
	if d.State != Running && d.State != Stopping && !(d.State == Sweeping && d.WaitsForSurvivors()) {
		return
	}
	if commands, ok := d.Cleanup.ClaimOne(id); ok {
		d.Cleanup.Commands = commands
		d.startCommands(id)
	}
}
