package machine

import (
	"fmt"
	"time"

	"graceful/cleanup"
)

// This file adds commands to a run that has begun, withdraws them, and starts those that wait for a process.

const (
	// MaxCommands bounds the cleanup commands and on-stop commands of a run.
	MaxCommands = 1 << 16
	// MaxRegistered bounds the records of all registrations, in bytes (cleanup.Entry.RecordSize).
	MaxRegistered = 64 << 20
)

// registered adds a command, or refuses it. A repeated request with the same key gets the id of the first.
func (r Run) registered(e Registered) (Run, []Action) {
	if id, ok := r.Cleanup.Registered(e.Entry.Key); ok {
		return r, []Action{Answer{ID: id}}
	}
	with := r
	with.Cleanup.Stack = r.Cleanup.Register(e.Entry)
	with.Cleanup.Recorded += e.Entry.RecordSize()
	id := len(with.Cleanup.Entries)
	left, todo := with.moveDeadline(r, e.Left)
	refusal := with.deadlineRefusal()
	switch {
	case r.State >= Cleaning:
		refusal = "cleaning up has begun, and nothing more is taken"
	case !e.Replay && (id > MaxCommands || with.Cleanup.Recorded > MaxRegistered):
		refusal = fmt.Sprintf("the run has taken %d commands of %d bytes, and takes no more", id-1, r.Cleanup.Recorded)
	case refusal == "" && r.Stop.Bounded && left <= 0:
		refusal = fmt.Sprintf("the deadline of %v leaves no %v for it: the stop has begun",
			r.Policy.Deadline, e.Entry.Command.Limit)
	}
	if refusal != "" {
		return r, []Action{Answer{Refusal: refusal}}
	}
	return with, append(todo, Answer{ID: id})
}

// deadlineRefusal says why a stop and the cleanup commands do not both fit under the deadline. It is empty when they
// fit.
func (r Run) deadlineRefusal() string {
	p, cleaning := r.Policy, r.cleaningTime()
	const format = "it does not fit under the deadline of %v: with it the cleanup commands may take %v, and "
	switch {
	case p.Deadline == 0:
	case addCapped(p.Asked, cleaning) > p.Deadline:
		return fmt.Sprintf(format+"%v of the stop were asked for", p.Deadline, cleaning, p.Asked)
	case r.StoppingTime()-p.Unsignalled <= 0:
		return fmt.Sprintf(format+"nothing is left for the target", p.Deadline, cleaning)
	}
	return ""
}

// moveDeadline moves the end of a running deadline timer by as much as the cleanup commands need more or less than in
// was. left is the time until that end. It returns the new one, or 0 when no timer runs.
func (r Run) moveDeadline(was Run, left time.Duration) (time.Duration, []Action) {
	if !r.Stop.Bounded || left <= 0 || r.State >= Cleaning {
		return 0, nil
	}
	after := left + r.StoppingTime() - was.StoppingTime()
	if after == left {
		return left, nil
	}
	return after, []Action{startTimer{Timer{Name: DeadlineTimer}, after}}
}

// withdrawn withdraws a command that has not been claimed. Its id is not used again.
func (r Run) withdrawn(e Withdrawn) (Run, []Action) {
	stack, ok := r.Cleanup.Withdraw(e.ID)
	if !ok {
		return r, []Action{Answer{ID: e.ID, Refusal: r.withdrawalRefusal(e.ID)}}
	}
	was := r
	r.Cleanup.Stack = stack
	_, todo := r.moveDeadline(was, e.Left)
	return r, append(todo, Answer{ID: e.ID})
}

// withdrawalRefusal says why a command cannot be withdrawn.
func (r Run) withdrawalRefusal(id int) string {
	switch c, known := r.Cleanup.Get(id); {
	case !known:
		return "no command has that id"
	case c.When != cleanup.AtExit:
		return "that is no cleanup command, but one for the beginning of a stop"
	case c.Progress == cleanup.Claimed:
		return "too late: it has been started"
	}
	return "too late: it has ended"
}

// exited starts a command that waits for the end of a process. Once all members of the tree are being ended, the
// command waits for its turn instead.
func (r Run) exited(id int) (Run, []Action) {
	if r.State != Running && r.State != Stopping && !(r.State == Sweeping && r.Waiting()) {
		return r, nil
	}
	stack, ok := r.Cleanup.ClaimOne(id)
	if !ok {
		return r, nil
	}
	r.Cleanup.Stack = stack
	return r, r.startCommands([]int{id})
}
