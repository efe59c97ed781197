package runner

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
	sigKILL = 9
	sigTERM = 15
)

// CleaningTime is what the cleanup commands that have not ended may take together.
func (r coreRun) CleaningTime() (sum time.Duration) {
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
func (r coreRun) StoppingTime() time.Duration {
	d := r.Policy.Deadline
	return d - r.CleaningTime() - min(d/10, time.Second)
}

// waiting tells whether survivors are being waited for, and not stopped.
func (r coreRun) waiting() bool {
	return r.Policy.Survivors == WaitSurvivors && r.Stop.Step == 0 && !r.Stop.Escalated && !r.Stop.Recovered
}

func (r coreRun) keeps() bool { return r.Policy.Survivors == KeepSurvivors && !r.Stop.Recovered }

// send passes a signal on to whom it is for now.
func (r coreRun) send(sig int, resume bool) []action {
	switch {
	case sig == 0:
		return nil
	case r.Target.Ended:
		return []action{signalSurvivors{signal: sig, resume: resume}}
	}
	return []action{forwardSignal{sig, r.Policy.ForwardTo == ForwardToTarget, resume}}
}

// stop begins the stop.
func (r coreRun) stop() (coreRun, []action) {
	r.State, r.Stop.Phase = Stopping, Notifying
	r, todo := r.bound()
	r, more := r.notify()
	return r, append(append(todo, stopTimer{timer{Name: timeoutTimer}}), more...)
}

// bound lets the deadline run, from the first reason to stop on.
func (r coreRun) bound() (coreRun, []action) {
	if r.Stop.Bounded || r.Policy.Deadline == 0 {
		return r, nil
	}
	r.Stop.Bounded = true
	return r, []action{startTimer{timer{Name: deadlineTimer}, r.StoppingTime()}}
}

// notify starts the next on-stop command, or goes on when there is none.
func (r coreRun) notify() (coreRun, []action) {
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
		return r, []action{startTimer{timer{Name: drainTimer}, r.Policy.Drain}}
	}
	return r.press(nil)
}

// press takes the next step of the schedule, after the last one SIGKILL.
func (r coreRun) press(todo []action) (coreRun, []action) {
	steps := r.Policy.steps()
	if r.Stop.Step == len(steps) {
		r, more := r.kill()
		return r, append(todo, more...)
	}
	r.Stop.Phase = Signalling
	r.Stop.Step++
	first := r.current()
	if held := r.Stop.Held; len(held) > 0 && r.Stop.Step == 1 && steps[0].Signal == 0 {
		for _, sig := range held {
			todo = append(todo, r.send(r.Policy.rewritten(sig), true)...)
		}
	} else {
		todo = append(todo, r.send(first, true)...)
	}
	r.Stop.Held = nil
	return r, append(todo, startTimer{timer{Name: graceTimer}, steps[r.Stop.Step-1].Wait})
}

// current is the signal of the step that has begun, or that survivors get before any has.
func (r coreRun) current() int {
	if r.Stop.Step > 0 {
		if s := r.Policy.steps()[r.Stop.Step-1]; s.Signal > 0 {
			return s.Signal
		} else if s.Signal < 0 {
			return 0
		}
	}
	if r.Stop.Signal != 0 && !r.Target.Ended {
		return r.Policy.rewritten(r.Stop.Signal)
	}
	return r.Policy.rewritten(sigTERM)
}

// kill ends what is left of the stop.
func (r coreRun) kill() (coreRun, []action) {
	r.Stop.Escalated = true
	if r.State == Stopping {
		r.State = Killing
		if r.Target.Ended {
			r.State = Sweeping
		}
	}
	todo := []action{stopTimer{timer{Name: graceTimer}}, stopTimer{timer{Name: drainTimer}}}
	for _, id := range r.Cleanup.Running(cleanup.AtStop) { // they are not of the tree at every level
		todo = append(todo, killCommand{id}, startTimer{timer{abandonTimer, id}, r.Policy.patience()})
	}
	return r, append(todo, killTree{})
}

func (r coreRun) timeUp(name timerName) (coreRun, []action) {
	stopping := r.State == Stopping || r.State == Sweeping && !r.Stop.Escalated
	switch {
	case name == timeoutTimer && r.State == Running:
		r.Stop.TimedOut = true
		return r.stop()
	case name == drainTimer && r.State == Stopping && r.Stop.Phase == Draining:
		return r.press(nil)
	case name == graceTimer && stopping && r.Stop.Phase == Signalling:
		return r.press(nil)
	case name == deadlineTimer && stopping:
		return r.kill()
	}
	return r, nil
}

func (r coreRun) signalled(e signalled) (coreRun, []action) {
	stop := e.meaning == forward.Stop
	again := stop && r.Stop.Count > 0 && r.Policy.KillOnRepeat
	if stop && r.State > Starting && r.State < Done {
		r.Stop.Count = min(r.Stop.Count+1, 2) // more than two are as good as two
	}
	to := r.Policy.rewritten(e.signal)
	switch r.State {
	case Running, Stopping:
		switch {
		case again && r.State == Stopping:
			return r.kill()
		case stop:
			return r.stopSignal(e.signal)
		case e.meaning == forward.Suspend && to == e.signal:
			return r, []action{forwardSignal{signal: to}, suspend{}}
		case e.meaning == forward.Pass || e.meaning == forward.Suspend:
			return r, r.send(to, false)
		}
	case Sweeping:
		switch {
		case r.Stop.Escalated || !stop && e.meaning != forward.Pass:
		case again:
			return r.kill()
		case stop && r.waiting():
			r.Stop.Held = []int{e.signal}
			r, todo := r.bound()
			return r.press(todo)
		case stop:
			r, todo := r.bound()
			return r, append(todo, r.send(to, true)...)
		default:
			return r, r.send(to, false)
		}
	case Cleaning:
		if again {
			return r.cut()
		}
	}
	return r, nil
}

// stopSignal takes a stop signal while the target lives.
func (r coreRun) stopSignal(sig int) (coreRun, []action) {
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
		return r.press([]action{stopTimer{timer{Name: drainTimer}}})
	}
	return r, r.send(r.Policy.rewritten(sig), true)
}

// sweep begins when the target has ended. Survivors have what is left of the grace; all of it, when no signal was sent
// yet.
func (r coreRun) sweep() (coreRun, []action) {
	stopped := r.State == Stopping
	r.State, r.Stop.Held = Sweeping, nil
	todo := []action{stopTimer{timer{Name: timeoutTimer}}, stopTimer{timer{Name: drainTimer}}}
	switch {
	case r.Stop.Escalated:
		return r, append(todo, killTree{})
	case r.keeps():
		r, more := clean(r)
		return r, append(append(todo, keepSurvivors{}), more...)
	case r.waiting() && !stopped:
		return r, todo
	case r.Stop.Step == 0:
		return r.press(todo)
	case r.Policy.Survivors == WaitSurvivors && !r.Stop.Recovered:
		return r, todo
	}
	if sig := r.Policy.rewritten(sigTERM); sig != 0 {
		todo = append(todo, signalSurvivors{signal: sig, resume: true, unasked: true})
	}
	return r, todo
}
