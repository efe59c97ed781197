package machine

import (
	"fmt"
	"time"

	"graceful/cleanup"
)

// How cleanup commands join a run that goes on, and leave it: the part of the machine that lets them.

const (
	// maxCommands bounds the cleanup commands and on-stop commands of a run.
	MaxCommands = 1 << 16
	// maxRegistered bounds the records of all registrations, in bytes (cleanup.Entry.RecordSize).
	MaxRegistered = 64 << 20
)

// registered lets a command join. Who asks again with the same key has it already.
func (r Run) registered(e Registered) (Run, []Action) {
	if id, ok := r.Cleanup.Registered(e.Entry.Key); ok {
		return r, []Action{Answer{ID: id}}
	}
	with := r
	with.Cleanup.Stack = r.Cleanup.Register(e.Entry)
	with.Cleanup.Recorded += e.Entry.RecordSize()
	id := len(with.Cleanup.Entries)
	refusal := ""
	switch {
	case r.State >= Cleaning:
		refusal = "cleaning up has begun, and nothing more is taken"
	case !e.Replay && (id > MaxCommands || with.Cleanup.Recorded > MaxRegistered):
		refusal = fmt.Sprintf("the run has taken %d commands of %d bytes, and takes no more", id-1, r.Cleanup.Recorded)
	default:
		refusal = with.unfit()
	}
	if refusal != "" {
		return r, []Action{Answer{Refusal: refusal}}
	}
	left, todo := with.rebound(r, e.Left)
	if r.Stop.Bounded && left <= 0 {
		return r, []Action{Answer{Refusal: fmt.Sprintf("the deadline of %v leaves no %v for it: the stop has begun", r.Policy.Deadline, e.Entry.Command.Limit)}}
	}
	return with, append(todo, Answer{ID: id})
}

// unfit says why the cleanup commands and a stop do not both fit under the deadline.
func (r Run) unfit() string {
	config, cleaning := r.Policy, r.CleaningTime()
	switch {
	case config.Deadline == 0:
	case add(config.Asked, cleaning) > config.Deadline:
		return fmt.Sprintf("it does not fit under the deadline of %v: with it the cleanup commands may take %v, and %v of the stop were asked for",
			config.Deadline, cleaning, config.Asked)
	case r.StoppingTime()-config.Unsignalled <= 0:
		return fmt.Sprintf("it does not fit under the deadline of %v: with it the cleanup commands may take %v, and nothing is left for the target",
			config.Deadline, cleaning)
	}
	return ""
}

// rebound moves the end of the stop, where the deadline runs, by as much as the cleanup commands take more or less than
// they did.
func (r Run) rebound(was Run, left time.Duration) (time.Duration, []Action) {
	if !r.Stop.Bounded || left <= 0 || r.State >= Cleaning {
		return 0, nil
	}
	after := left + r.StoppingTime() - was.StoppingTime()
	if after == left {
		return left, nil
	}
	return after, []Action{startTimer{Timer{Name: DeadlineTimer}, after}}
}

// withdrawn takes a command back. An id is never used twice.
func (r Run) withdrawn(e Withdrawn) (Run, []Action) {
	without, ok := r.Cleanup.Withdraw(e.ID)
	if !ok {
		c, known := r.Cleanup.Get(e.ID)
		refusal := "too late: it has ended"
		switch {
		case !known:
			refusal = "no command has that id"
		case c.When != cleanup.AtExit:
			refusal = "that is no cleanup command, but one for the beginning of a stop"
		case c.Progress == cleanup.Claimed:
			refusal = "too late: it has been started"
		}
		return r, []Action{Answer{ID: e.ID, Refusal: refusal}}
	}
	was := r
	r.Cleanup.Stack = without
	_, todo := r.rebound(was, e.Left)
	return r, append(todo, Answer{ID: e.ID})
}

// exited starts a command that waits for the end of a process, unless all of the tree is being ended: then it comes in its
// turn.
func (r Run) exited(id int) (Run, []Action) {
	if r.State != Running && r.State != Stopping && !(r.State == Sweeping && r.Waiting()) {
		return r, nil
	}
	claimed, ok := r.Cleanup.ClaimOne(id)
	if !ok {
		return r, nil
	}
	r.Cleanup.Stack = claimed
	return r, r.begin([]int{id})
}
