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
func (d *decision) signalled(e Signalled) {
	stop := e.Meaning == forward.Stop
	repeated := stop && d.Stop.Count > 0 && d.Policy.KillOnRepeat
	if stop && d.State > Starting && d.State < Done {
		d.Stop.Count = min(d.Stop.Count+1, 2) // a bounded count keeps the ledger bounded: see Changed
	}
	to := d.Policy.Rewritten(e.Signal)
	live := d.State == Running || d.State == Stopping // the target may still live
	switch {
	case d.State == Cleaning && repeated:
		d.cutShort()
	case !live && (d.State != Sweeping || d.Stop.Escalated): // after SIGKILL no signal is forwarded
	case repeated && d.State != Running:
		d.kill()
	case stop:
		d.stopSignal(e.Signal)
	case live && e.Meaning == forward.Suspend && to == e.Signal:
		d.do(ForwardSignal{Signal: to}, Suspend{})
	case e.Meaning == forward.Pass || live && e.Meaning == forward.Suspend:
		d.forwardSignal(to, false)
	}
}

// stopSignal handles a stop signal in Running, Stopping and Sweeping, unless it kills.
func (d *decision) stopSignal(sig int) {
	if d.Stop.Signal == 0 && !d.Target.Ended {
		d.Stop.Signal = sig
	}
	if d.Stop.Step == 0 && !slices.Contains(d.Stop.Held, sig) {
		d.Stop.Held = append(slices.Clip(d.Stop.Held), sig)
	}
	if d.State == Running {
		d.stop()
		return
	}
	d.startDeadline() // the first reason to stop may come in Sweeping
	switch {
	case d.Stop.Phase == PhaseDrain:
		d.do(stopTimers(0, DrainTimer)...)
		d.nextStep()
	case d.State == Sweeping && d.Waiting():
		d.nextStep()
	case d.Stop.Phase == PhaseSignals:
		d.forwardSignal(d.Policy.Rewritten(sig), true)
	}
}

// forwardSignal sends a signal to the target, or to the survivors once the target has ended. Signal 0 is none.
func (d *decision) forwardSignal(sig int, resume bool) {
	switch {
	case sig == 0:
	case d.Target.Ended:
		d.do(SignalSurvivors{Signal: sig, Resume: resume})
	default:
		d.do(ForwardSignal{sig, d.Policy.ForwardTo == ForwardToTarget, resume})
	}
}

// timeUp handles the end of a timer of the run.
func (d *decision) timeUp(name TimerName) {
	stopping := d.State == Stopping || d.State == Sweeping && !d.Stop.Escalated
	switch {
	case name == TimeoutTimer && d.State == Running:
		d.Stop.TimedOut = true
		d.stop()
	case name == DrainTimer && d.State == Stopping && d.Stop.Phase == PhaseDrain,
		name == GraceTimer && stopping && d.Stop.Phase == PhaseSignals:
		d.nextStep()
	case name == DeadlineTimer && stopping:
		d.kill()
	}
}

// stop begins a stop in Running.
func (d *decision) stop() {
	d.State, d.Stop.Phase = Stopping, PhaseOnStop
	d.startDeadline()
	d.do(stopTimers(0, TimeoutTimer)...)
	d.nextOnStop()
}

// startDeadline starts the deadline timer at the first reason to stop.
func (d *decision) startDeadline() {
	if !d.Stop.Bounded && d.Policy.Deadline != 0 {
		d.Stop.Bounded = true
		d.do(startTimer{Timer{Name: DeadlineTimer}, d.StoppingTime()})
	}
}

// nextOnStop starts the next on-stop command. When there is none it begins the drain, or the first step.
func (d *decision) nextOnStop() {
	if d.Target.Ended {
		d.sweep()
		return
	}
	if d.startNext(cleanup.AtStop) {
		return
	}
	unasked := d.Stop.TimedOut || d.Stop.PeerEnded
	hurry := d.Stop.Count > 1 || d.Stop.Count > 0 && unasked
	if d.Policy.Drain <= 0 || hurry {
		d.nextStep()
		return
	}
	d.Stop.Phase = PhaseDrain
	d.do(startTimer{Timer{Name: DrainTimer}, d.Policy.Drain})
}

// nextStep begins the next step of the schedule. After the last step it kills.
func (d *decision) nextStep() {
	steps := d.Policy.Steps()
	if d.Stop.Step == len(steps) {
		d.kill()
		return
	}
	step := steps[d.Stop.Step]
	d.Stop.Phase = PhaseSignals
	d.Stop.Step++
	if d.Stop.Step == 1 && step.Signal == 0 && len(d.Stop.Held) > 0 {
		for _, sig := range d.Stop.Held {
			d.forwardSignal(d.Policy.Rewritten(sig), true)
		}
	} else {
		d.forwardSignal(d.stepSignal(), true)
	}
	d.Stop.Held = nil
	d.do(startTimer{Timer{Name: GraceTimer}, step.Wait})
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
func (d *decision) kill() {
	d.Stop.Escalated = true
	switch {
	case d.State == Stopping && d.Target.Ended:
		d.State = Sweeping
	case d.State == Stopping:
		d.State = Killing
	}
	d.do(stopTimers(0, GraceTimer, DrainTimer)...)
	for _, id := range d.Cleanup.Running(cleanup.AtStop) {
		d.killCommand(id)
	}
	d.do(KillTree{})
}

// sweep ends the survivors after the target has ended. They have what is left of the grace, or all of it when no step
// has begun.
func (d *decision) sweep() {
	stopped := d.State == Stopping
	d.State, d.Stop.Held = Sweeping, nil
	d.do(stopTimers(0, TimeoutTimer, DrainTimer)...)
	sig := d.Policy.Rewritten(SigTERM)
	switch {
	case d.Stop.Escalated:
		d.do(KillTree{})
	case d.Keeps():
		d.do(LeaveSurvivors{})
		d.clean()
	case d.Waiting() && !stopped: // no process asked for their end
	case d.Stop.Step == 0:
		d.nextStep()
	case d.Policy.Survivors == WaitSurvivors && !d.Stop.Recovered:
	case sig != 0:
		d.do(SignalSurvivors{Signal: sig, Resume: true, Rest: true})
	}
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
