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
func (r Run) CleaningTime() (sum time.Duration) {
	for _, c := range r.Cleanup.Entries {
		switch limit := c.Command.Limit; {
		case c.When != cleanup.AtExit || c.Progress > cleanup.Claimed:
		case r.Config.Order == cleanup.Parallel:
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
	d := r.Config.Deadline
	return d - r.CleaningTime() - min(d/10, time.Second)
}

// StoppingTime is that of a run at its beginning.
func (c Config) StoppingTime() time.Duration { return newRun("", c).StoppingTime() }

// waiting tells whether survivors are being waited for, and not stopped.
func (r Run) waiting() bool {
	return r.Config.Survivors == WaitSurvivors && r.Step == 0 && !r.Escalated && !r.Recovered
}

func (r Run) keeps() bool { return r.Config.Survivors == KeepSurvivors && !r.Recovered }

// send passes a signal on to whom it is for now.
func (r Run) send(sig int, resume bool) []action {
	switch {
	case sig == 0:
		return nil
	case r.Ended:
		return []action{signalSurvivors{signal: sig, resume: resume}}
	}
	return []action{forwardSignal{sig, r.Config.ForwardTo == ForwardToTarget, resume}}
}

// stop begins the stop.
func (r Run) stop() (Run, []action) {
	r.State, r.Phase = Stopping, Notifying
	r, todo := r.bound()
	r, more := r.notify()
	return r, append(append(todo, stopTimer{timer{Name: timeoutTimer}}), more...)
}

// bound lets the deadline run, from the first reason to stop on.
func (r Run) bound() (Run, []action) {
	if r.Bounded || r.Config.Deadline == 0 {
		return r, nil
	}
	r.Bounded = true
	return r, []action{startTimer{timer{Name: deadlineTimer}, r.StoppingTime()}}
}

// notify starts the next on-stop command, or goes on when there is none.
func (r Run) notify() (Run, []action) {
	if r.Ended {
		return r.sweep()
	}
	var claimed []int
	if r.Cleanup, claimed = r.Cleanup.Claim(cleanup.AtStop); len(claimed) > 0 {
		return r, r.begin(claimed)
	}
	unasked := r.TimedOut || r.Orphaned
	if hurry := r.Stops > 1 || r.Stops > 0 && unasked; r.Config.Drain > 0 && !hurry {
		r.Phase = Draining
		return r, []action{startTimer{timer{Name: drainTimer}, r.Config.Drain}}
	}
	return r.press(nil)
}

// press takes the next step of the schedule, after the last one SIGKILL.
func (r Run) press(todo []action) (Run, []action) {
	steps := r.Config.steps()
	if r.Step == len(steps) {
		r, more := r.kill()
		return r, append(todo, more...)
	}
	r.Phase = Signalling
	r.Step++
	first := r.current()
	if held := r.Held; len(held) > 0 && r.Step == 1 && steps[0].Signal == 0 {
		for _, sig := range held {
			todo = append(todo, r.send(r.Config.rewritten(sig), true)...)
		}
	} else {
		todo = append(todo, r.send(first, true)...)
	}
	r.Held = nil
	return r, append(todo, startTimer{timer{Name: graceTimer}, steps[r.Step-1].Wait})
}

// current is the signal of the step that has begun, or that survivors get before any has.
func (r Run) current() int {
	if r.Step > 0 {
		if s := r.Config.steps()[r.Step-1]; s.Signal > 0 {
			return s.Signal
		} else if s.Signal < 0 {
			return 0
		}
	}
	if r.StopSignal != 0 && !r.Ended {
		return r.Config.rewritten(r.StopSignal)
	}
	return r.Config.rewritten(sigTERM)
}

// kill ends what is left of the stop.
func (r Run) kill() (Run, []action) {
	r.Escalated = true
	if r.State == Stopping {
		r.State = Killing
		if r.Ended {
			r.State = Sweeping
		}
	}
	todo := []action{stopTimer{timer{Name: graceTimer}}, stopTimer{timer{Name: drainTimer}}}
	for _, id := range r.Cleanup.Running(cleanup.AtStop) { // they are not of the tree at every level
		todo = append(todo, killCommand{id}, startTimer{timer{abandonTimer, id}, r.Config.patience()})
	}
	return r, append(todo, killTree{})
}

func (r Run) timeUp(name timerName) (Run, []action) {
	stopping := r.State == Stopping || r.State == Sweeping && !r.Escalated
	switch {
	case name == timeoutTimer && r.State == Running:
		r.TimedOut = true
		return r.stop()
	case name == drainTimer && r.State == Stopping && r.Phase == Draining:
		return r.press(nil)
	case name == graceTimer && stopping && r.Phase == Signalling:
		return r.press(nil)
	case name == deadlineTimer && stopping:
		return r.kill()
	}
	return r, nil
}

func (r Run) signalled(e signalled) (Run, []action) {
	stop := e.meaning == forward.Stop
	again := stop && r.Stops > 0 && r.Config.KillOnRepeat
	if stop && r.State > Starting && r.State < Done {
		r.Stops = min(r.Stops+1, 2) // more than two are as good as two
	}
	to := r.Config.rewritten(e.signal)
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
		case r.Escalated || !stop && e.meaning != forward.Pass:
		case again:
			return r.kill()
		case stop && r.waiting():
			r.Held = []int{e.signal}
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
func (r Run) stopSignal(sig int) (Run, []action) {
	if r.StopSignal == 0 && !r.Ended {
		r.StopSignal = sig
	}
	if (r.State == Running || r.Phase < Signalling) && !slices.Contains(r.Held, sig) {
		r.Held = append(slices.Clip(r.Held), sig)
	}
	switch {
	case r.State == Running:
		return r.stop()
	case r.Phase == Notifying: // held
		return r, nil
	case r.Phase == Draining: // cut short
		return r.press([]action{stopTimer{timer{Name: drainTimer}}})
	}
	return r, r.send(r.Config.rewritten(sig), true)
}

// sweep begins when the target has ended. Survivors have what is left of the grace; all of it, when no signal was sent
// yet.
func (r Run) sweep() (Run, []action) {
	stopped := r.State == Stopping
	r.State, r.Held = Sweeping, nil
	todo := []action{stopTimer{timer{Name: timeoutTimer}}, stopTimer{timer{Name: drainTimer}}}
	switch {
	case r.Escalated:
		return r, append(todo, killTree{})
	case r.keeps():
		r, more := clean(r)
		return r, append(append(todo, keepSurvivors{}), more...)
	case r.waiting() && !stopped:
		return r, todo
	case r.Step == 0:
		return r.press(todo)
	case r.Config.Survivors == WaitSurvivors && !r.Recovered:
		return r, todo
	}
	if sig := r.Config.rewritten(sigTERM); sig != 0 {
		todo = append(todo, signalSurvivors{signal: sig, resume: true, unasked: true})
	}
	return r, todo
}
