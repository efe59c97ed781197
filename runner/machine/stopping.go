package machine

import (
	"math"
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/forward"
)

// This file stops a run: from the first reason to stop until the tree is empty.

// signalled handles a signal to graceful. Every stop signal is counted.
func (r Run) signalled(e Signalled) (Run, []Action) {
	stop := e.Meaning == forward.Stop
	repeated := stop && r.Stop.Count > 0 && r.Policy.KillOnRepeat
	if stop && r.State > Starting && r.State < Done {
		r.Stop.Count = min(r.Stop.Count+1, 2) // a bounded count keeps the ledger bounded: see Changed
	}
	switch r.State {
	case Running, Stopping:
		return r.signalledLive(e, repeated)
	case Sweeping:
		return r.signalledSweeping(e, repeated)
	case Cleaning:
		if repeated {
			return r.cutShort()
		}
	}
	return r, nil
}

// signalledLive handles a signal in Running and Stopping, where the target may still live.
func (r Run) signalledLive(e Signalled, repeated bool) (Run, []Action) {
	to := r.Policy.Rewritten(e.Signal)
	switch {
	case repeated && r.State == Stopping:
		return r.kill()
	case e.Meaning == forward.Stop:
		return r.stopSignal(e.Signal)
	case e.Meaning == forward.Suspend && to == e.Signal:
		return r, []Action{ForwardSignal{Signal: to}, Suspend{}}
	case e.Meaning == forward.Pass || e.Meaning == forward.Suspend:
		return r, r.forwardSignal(to, false)
	}
	return r, nil
}

// stopSignal handles a stop signal in Running and Stopping.
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
	case r.Stop.Phase == Notifying:
		return r, nil
	case r.Stop.Phase == Draining:
		return r.nextStep(stopTimers(0, DrainTimer)...)
	}
	return r, r.forwardSignal(r.Policy.Rewritten(sig), true)
}

// signalledSweeping handles a signal in Sweeping. After SIGKILL no signal is forwarded.
func (r Run) signalledSweeping(e Signalled, repeated bool) (Run, []Action) {
	stop := e.Meaning == forward.Stop
	to := r.Policy.Rewritten(e.Signal)
	switch {
	case r.Stop.Escalated || !stop && e.Meaning != forward.Pass:
		return r, nil
	case repeated:
		return r.kill()
	case !stop:
		return r, r.forwardSignal(to, false)
	}
	waited := r.Waiting()
	r, todo := r.startDeadline()
	if waited {
		r.Stop.Held = []int{e.Signal}
		return r.nextStep(todo...)
	}
	return r, append(todo, r.forwardSignal(to, true)...)
}

// forwardSignal returns the action that sends a signal to the target, or to the survivors once the target has ended.
// There is none for signal 0.
func (r Run) forwardSignal(sig int, resume bool) []Action {
	switch {
	case sig == 0:
		return nil
	case r.Target.Ended:
		return []Action{SignalSurvivors{Signal: sig, Resume: resume}}
	}
	return []Action{ForwardSignal{sig, r.Policy.ForwardTo == ForwardToTarget, resume}}
}

// timeUp handles the end of a timer of the run.
func (r Run) timeUp(name TimerName) (Run, []Action) {
	stopping := r.State == Stopping || r.State == Sweeping && !r.Stop.Escalated
	switch {
	case name == TimeoutTimer && r.State == Running:
		r.Stop.TimedOut = true
		return r.stop()
	case name == DrainTimer && r.State == Stopping && r.Stop.Phase == Draining:
		return r.nextStep()
	case name == GraceTimer && stopping && r.Stop.Phase == Signalling:
		return r.nextStep()
	case name == DeadlineTimer && stopping:
		return r.kill()
	}
	return r, nil
}

// stop begins a stop in Running.
func (r Run) stop() (Run, []Action) {
	r.State, r.Stop.Phase = Stopping, Notifying
	r, todo := r.startDeadline()
	return r.nextOnStop(append(todo, stopTimers(0, TimeoutTimer)...)...)
}

// startDeadline starts the deadline timer at the first reason to stop.
func (r Run) startDeadline() (Run, []Action) {
	if r.Stop.Bounded || r.Policy.Deadline == 0 {
		return r, nil
	}
	r.Stop.Bounded = true
	return r, []Action{startTimer{Timer{Name: DeadlineTimer}, r.StoppingTime()}}
}

// nextOnStop starts the next on-stop command. When there is none it begins the drain, or the first step. Like the other
// functions with this parameter, it appends its actions to todo.
func (r Run) nextOnStop(todo ...Action) (Run, []Action) {
	if r.Target.Ended {
		return r.sweep(todo...)
	}
	r, start := r.startNext(cleanup.AtStop)
	if len(start) > 0 {
		return r, append(todo, start...)
	}
	unasked := r.Stop.TimedOut || r.Stop.Orphaned
	if hurry := r.Stop.Count > 1 || r.Stop.Count > 0 && unasked; r.Policy.Drain > 0 && !hurry {
		r.Stop.Phase = Draining
		return r, append(todo, startTimer{Timer{Name: DrainTimer}, r.Policy.Drain})
	}
	return r.nextStep(todo...)
}

// nextStep begins the next step of the schedule. After the last step it kills.
func (r Run) nextStep(todo ...Action) (Run, []Action) {
	steps := r.Policy.Steps()
	if r.Stop.Step == len(steps) {
		return r.kill(todo...)
	}
	step := steps[r.Stop.Step]
	r.Stop.Phase = Signalling
	r.Stop.Step++
	if r.Stop.Step == 1 && step.Signal == 0 && len(r.Stop.Held) > 0 {
		for _, sig := range r.Stop.Held {
			todo = append(todo, r.forwardSignal(r.Policy.Rewritten(sig), true)...)
		}
	} else {
		todo = append(todo, r.forwardSignal(r.stepSignal(), true)...)
	}
	r.Stop.Held = nil
	return r, append(todo, startTimer{Timer{Name: GraceTimer}, step.Wait})
}

// stepSignal returns the signal of the present step, or 0. Before the first step it returns the one for survivors.
func (r Run) stepSignal() int {
	if r.Stop.Step > 0 {
		switch sig := r.Policy.Steps()[r.Stop.Step-1].Signal; {
		case sig > 0:
			return sig
		case sig < 0:
			return 0
		}
	}
	if r.Stop.Signal != 0 && !r.Target.Ended {
		return r.Policy.Rewritten(r.Stop.Signal)
	}
	return r.Policy.Rewritten(SigTERM)
}

// kill sends SIGKILL to the tree and to the on-stop commands, which are members of the tree only at some levels.
func (r Run) kill(todo ...Action) (Run, []Action) {
	r.Stop.Escalated = true
	switch {
	case r.State == Stopping && r.Target.Ended:
		r.State = Sweeping
	case r.State == Stopping:
		r.State = Killing
	}
	todo = append(todo, stopTimers(0, GraceTimer, DrainTimer)...)
	for _, id := range r.Cleanup.Running(cleanup.AtStop) {
		todo = append(todo, r.killCommand(id)...)
	}
	return r, append(todo, KillTree{})
}

// sweep ends the survivors after the target has ended. They have what is left of the grace, or all of it when no step
// has begun.
func (r Run) sweep(todo ...Action) (Run, []Action) {
	stopped := r.State == Stopping
	r.State, r.Stop.Held = Sweeping, nil
	todo = append(todo, stopTimers(0, TimeoutTimer, DrainTimer)...)
	switch {
	case r.Stop.Escalated:
		return r, append(todo, KillTree{})
	case r.Keeps():
		return r.clean(append(todo, LeaveSurvivors{})...)
	case r.Waiting() && !stopped:
		return r, todo
	case r.Stop.Step == 0:
		return r.nextStep(todo...)
	case r.Policy.Survivors == WaitSurvivors && !r.Stop.Recovered:
		return r, todo
	}
	if sig := r.Policy.Rewritten(SigTERM); sig != 0 {
		todo = append(todo, SignalSurvivors{Signal: sig, Resume: true, Unasked: true})
	}
	return r, todo
}

// StoppingTime returns what the deadline leaves for all that comes before the cleanup commands. A margin of a tenth, a
// second at most, covers graceful's own work.
func (r Run) StoppingTime() time.Duration {
	d := r.Policy.Deadline
	return d - r.cleaningTime() - min(d/10, time.Second)
}

// cleaningTime returns the sum of the limits of all cleanup commands that have not ended; in parallel order, the
// longest.
func (r Run) cleaningTime() (sum time.Duration) {
	for _, c := range r.Cleanup.Entries {
		switch limit := c.Command.Limit; {
		case c.When != cleanup.AtExit || c.Progress > cleanup.Claimed:
		case r.Policy.Order == cleanup.Parallel:
			sum = max(sum, limit)
		default:
			sum = addCapped(sum, limit)
		}
	}
	return sum
}

// addCapped returns a+b for durations of at least 0, or the longest duration when the sum overflows.
func addCapped(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
