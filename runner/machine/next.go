package machine

import (
	"slices"
	"time"

	"graceful/cleanup"
)

// State is where a run stands. States move only to the right; a run may skip states.
type State uint8

// The life of a run.
const (
	Starting State = iota
	Running
	Stopping // a stop has begun; see Phase
	Killing  // the grace ran out; the target has not ended yet
	Sweeping // the target has ended; the survivors are ended
	Cleaning // the tree is empty; cleanup commands run
	Done
)

func (s State) String() string {
	return [...]string{"starting", "running", "stopping", "killing", "sweeping", "cleaning", "done"}[s]
}

// Run is all that the machine remembers of a run. It is a value and holds nothing but data, so that it can be recorded, and
// another process can resume the run.
type Run struct {
	Policy    Policy
	State     State
	Target    Target
	Stop      Stop
	Cleanup   Cleanup
	Deadlines []Deadline // kept by advance; the machine has no clock
}

// Target is what became of the target.
type Target struct {
	PID      int    // 0 until started
	Start    uint64 // its start time, in clock ticks since boot
	Ended    bool   // it has ended, or could not be started
	Ending   Ending // valid once Ended
	Failed   bool   // it could not be started
	Duration time.Duration
}

// Stop is how far a stop has come, and why it began.
type Stop struct {
	Signal    int   // the first stop signal before the target ended, or 0
	Count     int   // stop signals received; more than two count as two
	Held      []int // stop signals that are forwarded when the first step begins
	TimedOut  bool  // the time limit began it
	Orphaned  bool  // the death of one of graceful's processes began it
	Recovered bool  // the death of all of graceful's processes did
	Escalated bool  // the grace ran out, or was cut, and SIGKILL was sent
	Bounded   bool  // the deadline runs
	Phase     Phase
	Step      int // steps of the schedule that have begun
}

// Cleanup is the commands of the run, and how far they have come.
type Cleanup struct {
	cleanup.Stack
	Recorded int  // bytes that the records of registrations may take
	Cuts     int  // how often cleanup commands were cut short
	Relaying bool // the rest of the target's output is being relayed; cleanup waits for it
	Clearing bool // what cleanup commands left behind is being killed
}

// newCore is a run at its beginning.
func New(policy Policy, onExit, onStop []cleanup.Command) Run {
	r := Run{Policy: policy}
	r.Cleanup.Order = policy.Order
	for _, c := range onExit {
		r.Cleanup.Stack = r.Cleanup.Push(cleanup.AtExit, c)
	}
	for _, c := range onStop {
		r.Cleanup.Stack = r.Cleanup.Push(cleanup.AtStop, c)
	}
	return r
}

// statusFailed is the exit status for a failure of our own, statusTimedOut for that of the time limit (timeout(1)).
const (
	statusTimedOut = 124
	StatusFailed   = 125
)

// Status is what graceful exits with. A target that was stopped because we failed, and that takes a stop for success,
// has not succeeded.
func (r Run) Status() int {
	status := r.Target.Ending.Status()
	switch {
	case r.Stop.TimedOut:
		status = statusTimedOut
	case r.Stop.Orphaned && status == 0:
		status = StatusFailed
	}
	status = r.Policy.remap(status)
	if status == 0 && r.Policy.FailOnCleanupError && slices.ContainsFunc(r.Cleanup.Entries, failed) {
		status = r.Policy.remap(StatusFailed)
	}
	return status
}

// Raise is the signal by which graceful is to end itself, or 0: then it exits with Status.
func (r Run) Raise() int {
	if sig := r.Target.Ending.Signal; r.Policy.Reraise && sig != 0 && !r.Stop.TimedOut && r.Status() == 128+sig {
		return sig
	}
	return 0
}

// Reason says in a word what ended a run.
func (r Run) Reason() string {
	switch {
	case r.Stop.Recovered:
		return "recovered"
	case r.Stop.Orphaned:
		return "orphaned"
	case r.Target.Failed:
		return "start-failed"
	case r.Stop.TimedOut:
		return "timed-out"
	case r.Stop.Signal != 0:
		return "stopped"
	case r.Target.Ending.Signal != 0:
		return "signaled"
	}
	return "exited"
}

func failed(c *cleanup.Entry) bool {
	return c.When == cleanup.AtExit && c.Progress == cleanup.Ended && (c.TimedOut || c.Cut || c.Outcome.Failed())
}

// advance is next, with the deadlines kept. Who reads of events later goes through it in the same way.
func Advance(r Run, e Event, now time.Time) (Run, []Action) {
	switch e := e.(type) {
	case TimeUp:
		r = r.without(Timer{Name: e.Name})
	case CommandTimer:
		r = r.without(Timer{e.Name, e.ID})
	}
	r, wanted := Next(r, e)
	var todo []Action
	for _, a := range wanted {
		switch a := a.(type) {
		case startTimer:
			r = r.without(a.timer)
			r.Deadlines = append(r.Deadlines, Deadline{a.timer, now.Add(a.after)})
		case stopTimer:
			r = r.without(a.timer)
		default:
			todo = append(todo, a)
		}
	}
	return r, todo
}

// without forgets a deadline. The slice is a new one: others may have been shown the old one.
func (r Run) without(t Timer) Run {
	r.Deadlines = slices.DeleteFunc(slices.Clone(r.Deadlines), func(d Deadline) bool { return d.Timer == t })
	return r
}

// moved tells whether a signal, or a request, has made of a run anything but what it was.
func (r Run) Changed(was Run) bool {
	return r.State != was.State || r.Stop.Phase != was.Stop.Phase || r.Stop.Step != was.Stop.Step || r.Stop.Count != was.Stop.Count || r.Stop.Signal != was.Stop.Signal ||
		len(r.Stop.Held) != len(was.Stop.Held) || r.Cleanup.Cuts != was.Cleanup.Cuts || r.Cleanup.Changes != was.Cleanup.Changes
}

// next is the machine: what the run becomes of an event, and what is to be done. It is pure. Events that mean
// nothing in a state change nothing.
func Next(r Run, e Event) (Run, []Action) {
	switch e := e.(type) {
	case TargetStarted:
		if r.State == Starting {
			r.State = Running
			r.Target.PID, r.Target.Start = e.PID, e.Start
			if r.Policy.Timeout > 0 {
				return r, []Action{startTimer{Timer{Name: TimeoutTimer}, r.Policy.Timeout}}
			}
		}
	case TargetFailed:
		if r.State == Starting {
			r.Target.Ended, r.Target.Failed, r.Target.Ending = true, true, Ending{Code: e.Status}
			return clean(r)
		}
	case Signalled:
		return r.signalled(e)
	case TimeUp:
		return r.timeUp(e.Name)
	case TargetEnded:
		return r.targetEnded(e)
	case TreeEmptied:
		if r.State == Sweeping || r.State == Cleaning && r.Cleanup.Clearing {
			return clean(r)
		}
	case Relayed:
		if r.Cleanup.Relaying {
			return clean(r)
		}
	case CommandStarted:
		if r.claimed(e.ID) {
			r.Cleanup.Stack = r.Cleanup.Update(e.ID, func(c *cleanup.Entry) { c.PID, c.Start = e.PID, e.Start })
		}
	case CommandFailed:
		if c, _ := r.Cleanup.Get(e.ID); !r.claimed(e.ID) || c.PID != 0 {
			break
		}
		if e.Transient {
			return r, []Action{startTimer{Timer{RetryTimer, e.ID}, RetryAfter}}
		}
		return r.commandEnded(e.ID, cleanup.Outcome{Error: string(e.Err)})
	case CommandEnded:
		switch {
		case !r.claimed(e.ID):
		case e.Unseen:
			return r.forget(e.ID).commandEnded(e.ID, cleanup.Outcome{Error: wasUnseen, Unseen: true})
		default:
			return r.commandEnded(e.ID, cleanup.Outcome{Code: e.Ending.Code, Signal: e.Ending.Signal})
		}
	case CommandLost:
		if c, _ := r.Cleanup.Get(e.ID); r.claimed(e.ID) && c.When == cleanup.AtExit {
			return r.forget(e.ID).commandEnded(e.ID, cleanup.Outcome{Interrupted: true})
		}
	case Retried:
		return r.retried()
	case Registered:
		return r.registered(e)
	case Withdrawn:
		return r.withdrawn(e)
	case Exited:
		return r.exited(e.ID)
	case Orphaned:
		switch {
		case r.State == Starting:
			r.Stop.Orphaned, r.Target.Ended, r.Target.Failed, r.Target.Ending = true, true, true, Ending{Code: StatusFailed}
			return clean(r)
		case r.State == Running:
			r.Stop.Orphaned = true
			return r.stop()
		case r.State == Sweeping && r.Waiting():
			r, todo := r.armDeadline()
			return r.nextStep(todo)
		}
	case Recovered:
		if r.State < Sweeping {
			r.Stop.Recovered = true
			if r.State == Starting {
				r.State = Running
			}
			for _, id := range r.Cleanup.Running(cleanup.AtStop) { // if it lives, it is part of the tree
				r.Cleanup.Stack = r.forget(id).Cleanup.Update(id, func(c *cleanup.Entry) {
					c.Progress, c.Outcome = cleanup.Ended, cleanup.Outcome{Error: wasInterrupted, Interrupted: true}
				})
			}
			if r.Target.Ended {
				return r.sweep()
			}
			return r.targetEnded(TargetEnded{Ending: Ending{Code: StatusFailed}, After: e.After})
		}
	case CommandTimer:
		if r.claimed(e.ID) {
			return r.commandTimer(e)
		}
	}
	return r, nil
}

func (r Run) targetEnded(e TargetEnded) (Run, []Action) {
	if r.State != Running && r.State != Stopping && r.State != Killing || r.Target.Ended {
		return r, nil
	}
	r.Target.Ended, r.Target.Ending, r.Target.Duration = true, e.Ending, e.After
	if len(r.Cleanup.Running(cleanup.AtStop)) > 0 && r.State == Stopping {
		return r, nil // that one does its work first
	}
	return r.sweep()
}

// resume is what is to be done, perhaps again, by who goes on with a run that another process has led so far: that one
// may have been killed after it had decided on it and before it was done.
func Resume(r Run) (todo []Action) {
	switch {
	case r.State == Killing, r.State == Sweeping && r.Stop.Escalated:
		todo = []Action{KillTree{}}
	case r.State == Sweeping && r.Waiting():
	case r.State == Sweeping, r.State == Stopping && r.Stop.Phase == Signalling:
		todo = r.send(r.current(), true)
	case r.State == Cleaning && r.Keeps() && !r.Stop.Escalated:
		todo = []Action{LeaveSurvivors{}}
	}
	if r.Cleanup.Relaying {
		return append(todo, RelayRest{})
	}
	if r.Cleanup.Clearing {
		return append(todo, KillTree{})
	}
	for _, c := range r.Cleanup.Entries {
		switch {
		case c.Progress != cleanup.Claimed:
		case c.PID == 0 && r.Starts(c.When):
			todo = append(todo, StartCommand{c.ID})
		case c.PID == 0:
		case !r.Starts(c.When):
			todo = append(todo, KillCommand{c.ID})
		case c.TimedOut || c.Cut:
			todo = append(todo, TerminateCommand{c.ID})
		}
	}
	return todo
}

// starts tells whether commands of that moment that are claimed are started now.
func (r Run) Starts(when cleanup.When) bool { return when != cleanup.AtStop || r.State == Stopping }
