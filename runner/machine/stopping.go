package machine

import (
	"math"
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/forward"
)

// How a run is stopped: the part of the machine between the first reason to stop and an empty tree.

// Phase is how far a stop has come while the target lives.
type Phase uint8

// The phases of Stopping. Signalling goes on in Sweeping.
const (
	Notifying  Phase = iota // the on-stop commands run
	Draining                // the target serves what it has
	Signalling              // it has been signalled; see Run.Step
)

// They have the same numbers everywhere.
const (
	SigKILL = 9
	SigTERM = 15
)

// CleaningTime is what the cleanup commands that have not ended may take together.
func (r Run) CleaningTime() (sum time.Duration) {
	for _, c := range r.Cleanup.Entries {
		switch limit := c.Command.Limit; {
		case c.When != cleanup.AtExit || c.Progress > cleanup.Claimed:
		case r.Policy.Order == cleanup.Parallel:
			sum = max(sum, limit)
		default:
			sum = add(sum, limit)
		}
	}
	return sum
}

// add adds times that are not less than 0; what is too long is as long as it can be.
func add(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// StoppingTime is what the deadline leaves for all that comes before the cleanup commands; a margin is kept for what
// takes time unasked.
func (r Run) StoppingTime() time.Duration {
	d := r.Policy.Deadline
	return d - r.CleaningTime() - min(d/10, time.Second)
}

// waiting tells whether survivors are being waited for, and not stopped.
func (r Run) Waiting() bool {
	return r.Policy.Survivors == WaitSurvivors && r.Stop.Step == 0 && !r.Stop.Escalated && !r.Stop.Recovered
}

func (r Run) Keeps() bool { return r.Policy.Survivors == KeepSurvivors && !r.Stop.Recovered }

// send passes a signal on to whom it is for now.
func (r Run) send(sig int, resume bool) []Action {
	switch {
	case sig == 0:
		return nil
	case r.Target.Ended:
		return []Action{SignalSurvivors{Signal: sig, Resume: resume}}
	}
	return []Action{ForwardSignal{sig, r.Policy.ForwardTo == ForwardToTarget, resume}}
}

// stop begins the stop.
func (r Run) stop() (Run, []Action) {
	r.State, r.Stop.Phase = Stopping, Notifying
	r, todo := r.armDeadline()
	r, more := r.notify()
	return r, append(append(todo, stopTimer{Timer{Name: TimeoutTimer}}), more...)
}

// bound lets the deadline run, from the first reason to stop on.
func (r Run) armDeadline() (Run, []Action) {
	if r.Stop.Bounded || r.Policy.Deadline == 0 {
		return r, nil
	}
	r.Stop.Bounded = true
	return r, []Action{startTimer{Timer{Name: DeadlineTimer}, r.StoppingTime()}}
}

// notify starts the next on-stop command, or goes on when there is none.
func (r Run) notify() (Run, []Action) {
	if r.Target.Ended {
		return r.sweep()
	}
	var claimed []int
	if r.Cleanup.Stack, claimed = r.Cleanup.Claim(cleanup.AtStop); len(claimed) > 0 {
		return r, r.begin(claimed)
	}
	unasked := r.Stop.TimedOut || r.Stop.Orphaned
	if hurry := r.Stop.Count > 1 || r.Stop.Count > 0 && unasked; r.Policy.Drain > 0 && !hurry {
		r.Stop.Phase = Draining
		return r, []Action{startTimer{Timer{Name: DrainTimer}, r.Policy.Drain}}
	}
	return r.nextStep(nil)
}

// press takes the next step of the schedule, after the last one SIGKILL.
func (r Run) nextStep(todo []Action) (Run, []Action) {
	steps := r.Policy.Steps()
	if r.Stop.Step == len(steps) {
		r, more := r.kill()
		return r, append(todo, more...)
	}
	r.Stop.Phase = Signalling
	r.Stop.Step++
	first := r.current()
	if held := r.Stop.Held; len(held) > 0 && r.Stop.Step == 1 && steps[0].Signal == 0 {
		for _, sig := range held {
			todo = append(todo, r.send(r.Policy.Rewritten(sig), true)...)
		}
	} else {
		todo = append(todo, r.send(first, true)...)
	}
	r.Stop.Held = nil
	return r, append(todo, startTimer{Timer{Name: GraceTimer}, steps[r.Stop.Step-1].Wait})
}

// current is the signal of the step that has begun, or that survivors get before any has.
func (r Run) current() int {
	if r.Stop.Step > 0 {
		if s := r.Policy.Steps()[r.Stop.Step-1]; s.Signal > 0 {
			return s.Signal
		} else if s.Signal < 0 {
			return 0
		}
	}
	if r.Stop.Signal != 0 && !r.Target.Ended {
		return r.Policy.Rewritten(r.Stop.Signal)
	}
	return r.Policy.Rewritten(SigTERM)
}

// kill ends what is left of the stop.
func (r Run) kill() (Run, []Action) {
	r.Stop.Escalated = true
	if r.State == Stopping {
		r.State = Killing
		if r.Target.Ended {
			r.State = Sweeping
		}
	}
	todo := []Action{stopTimer{Timer{Name: GraceTimer}}, stopTimer{Timer{Name: DrainTimer}}}
	for _, id := range r.Cleanup.Running(cleanup.AtStop) { // they are not of the tree at every level
		todo = append(todo, KillCommand{id}, startTimer{Timer{AbandonTimer, id}, r.Policy.Patience()})
	}
	return r, append(todo, KillTree{})
}

func (r Run) timeUp(name TimerName) (Run, []Action) {
	stopping := r.State == Stopping || r.State == Sweeping && !r.Stop.Escalated
	switch {
	case name == TimeoutTimer && r.State == Running:
		r.Stop.TimedOut = true
		return r.stop()
	case name == DrainTimer && r.State == Stopping && r.Stop.Phase == Draining:
		return r.nextStep(nil)
	case name == GraceTimer && stopping && r.Stop.Phase == Signalling:
		return r.nextStep(nil)
	case name == DeadlineTimer && stopping:
		return r.kill()
	}
	return r, nil
}

func (r Run) signalled(e Signalled) (Run, []Action) {
	stop := e.Meaning == forward.Stop
	again := stop && r.Stop.Count > 0 && r.Policy.KillOnRepeat
	if stop && r.State > Starting && r.State < Done {
		r.Stop.Count = min(r.Stop.Count+1, 2) // more than two are as good as two
	}
	to := r.Policy.Rewritten(e.Signal)
	switch r.State {
	case Running, Stopping:
		switch {
		case again && r.State == Stopping:
			return r.kill()
		case stop:
			return r.stopSignal(e.Signal)
		case e.Meaning == forward.Suspend && to == e.Signal:
			return r, []Action{ForwardSignal{Signal: to}, Suspend{}}
		case e.Meaning == forward.Pass || e.Meaning == forward.Suspend:
			return r, r.send(to, false)
		}
	case Sweeping:
		switch {
		case r.Stop.Escalated || !stop && e.Meaning != forward.Pass:
		case again:
			return r.kill()
		case stop && r.Waiting():
			r.Stop.Held = []int{e.Signal}
			r, todo := r.armDeadline()
			return r.nextStep(todo)
		case stop:
			r, todo := r.armDeadline()
			return r, append(todo, r.send(to, true)...)
		default:
			return r, r.send(to, false)
		}
	case Cleaning:
		if again {
			return r.cutShort()
		}
	}
	return r, nil
}

// stopSignal takes a stop signal while the target lives.
func (r Run) stopSignal(sig int) (Run, []Action) {
	if r.Stop.Signal == 0 && !r.Target.Ended {
		r.Stop.Signal = sig
	}
	if (r.State == Running || r.Stop.Phase < Signalling) && !slices.Contains(r.Stop.Held, sig) {
		r.Stop.Held = append(slices.Clip(r.Stop.Held), sig)
	}
	switch {
	case r.State == Running:
		return r.stop()
	case r.Stop.Phase == Notifying: // held
		return r, nil
	case r.Stop.Phase == Draining: // cut short
		return r.nextStep([]Action{stopTimer{Timer{Name: DrainTimer}}})
	}
	return r, r.send(r.Policy.Rewritten(sig), true)
}

// sweep begins when the target has ended. Survivors have what is left of the grace; all of it, when no signal was sent
// yet.
func (r Run) sweep() (Run, []Action) {
	stopped := r.State == Stopping
	r.State, r.Stop.Held = Sweeping, nil
	todo := []Action{stopTimer{Timer{Name: TimeoutTimer}}, stopTimer{Timer{Name: DrainTimer}}}
	switch {
	case r.Stop.Escalated:
		return r, append(todo, KillTree{})
	case r.Keeps():
		r, more := clean(r)
		return r, append(append(todo, LeaveSurvivors{}), more...)
	case r.Waiting() && !stopped:
		return r, todo
	case r.Stop.Step == 0:
		return r.nextStep(todo)
	case r.Policy.Survivors == WaitSurvivors && !r.Stop.Recovered:
		return r, todo
	}
	if sig := r.Policy.Rewritten(SigTERM); sig != 0 {
		todo = append(todo, SignalSurvivors{Signal: sig, Resume: true, Unasked: true})
	}
	return r, todo
}
