package runner

import (
	"fmt"
	"time"

	"graceful/cleanup"
)

// How cleanup commands join a run that goes on, and leave it: the part of the machine that lets them.

// registered lets a command join. Who asks again with the same key has it already.
func (r Run) registered(e registered) (Run, []action) {
	if id, ok := r.Cleanup.Registered(e.entry.Key); ok {
		return r, []action{answer{id: id}}
	}
	with := r
	with.Cleanup = r.Cleanup.Register(e.entry)
	with.Recorded += sizeOf(e.entry)
	id := len(with.Cleanup.Entries)
	refusal := ""
	switch {
	case r.State >= Cleaning:
		refusal = "cleaning up has begun, and nothing more is taken"
	case !e.replay && (id > maxCommands || with.Recorded > maxRegistered):
		refusal = fmt.Sprintf("the run has taken %d commands of %d bytes, and takes no more", id-1, r.Recorded)
	default:
		refusal = with.unfit()
	}
	if refusal != "" {
		return r, []action{answer{refusal: refusal}}
	}
	left, todo := with.rebound(r, e.left)
	if r.Bounded && left <= 0 {
		return r, []action{answer{refusal: fmt.Sprintf("the deadline of %v leaves no %v for it: the stop has begun", r.Config.Deadline, e.entry.Command.Limit)}}
	}
	return with, append(todo, answer{id: id})
}

// unfit says why the cleanup commands and a stop do not both fit under the deadline.
func (r Run) unfit() string {
	config, cleaning := r.Config, r.CleaningTime()
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
func (r Run) rebound(was Run, left time.Duration) (time.Duration, []action) {
	if !r.Bounded || left <= 0 || r.State >= Cleaning {
		return 0, nil
	}
	after := left + r.StoppingTime() - was.StoppingTime()
	if after == left {
		return left, nil
	}
	return after, []action{startTimer{timer{Name: deadlineTimer}, after}}
}

// withdrawn takes a command back. An id is never used twice.
func (r Run) withdrawn(e withdrawn) (Run, []action) {
	without, ok := r.Cleanup.Withdraw(e.id)
	if !ok {
		c, known := r.Cleanup.Get(e.id)
		refusal := "too late: it has ended"
		switch {
		case !known:
			refusal = "no command has that id"
		case c.When != cleanup.AtExit:
			refusal = "that is no cleanup command, but one for the beginning of a stop"
		case c.Progress == cleanup.Claimed:
			refusal = "too late: it has been started"
		}
		return r, []action{answer{id: e.id, refusal: refusal}}
	}
	was := r
	r.Cleanup = without
	_, todo := r.rebound(was, e.left)
	return r, append(todo, answer{id: e.id})
}

// exited starts a command that waits for the end of a process, unless all of the tree is being ended: then it comes in its
// turn.
func (r Run) exited(id int) (Run, []action) {
	if r.State != Running && r.State != Stopping && !(r.State == Sweeping && r.waiting()) {
		return r, nil
	}
	claimed, ok := r.Cleanup.ClaimOne(id)
	if !ok {
		return r, nil
	}
	r.Cleanup = claimed
	return r, r.begin([]int{id})
}
