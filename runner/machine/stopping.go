package machine

import (
	"math"
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/forward"
)

// This file stops a run, from the first reason for a stop until the tree is empty.

// signalled handles a signal that graceful has received.
func (d *decision) signalled(e Signalled) {
	stop := e.Meaning == forward.Stop
	repeated := stop && d.Stop.Count > 0
	kills := repeated && d.Policy.OnRepeat == RepeatKill
	switch {
	case repeated && d.Stop.WindowOpen:
		d.furtherStopSignal(e.Signal)
		return
	case repeated && d.Policy.OnRepeat == RepeatIgnore:
		return
	case stop && d.State > Starting && d.State < Done:
		d.countStop(e.Signal)
	}
	to := d.Policy.Rewritten(e.Signal)
	live := d.State == Running || d.State == Stopping // the target may still live
	switch {
	case d.State == Cleaning && kills:
		d.cutShort()
	// No signal is forwarded before the start, after SIGKILL, or from Cleaning on.
	case !live && (d.State != Sweeping || d.Stop.Escalated):
	case kills:
		d.kill()
	case stop:
		d.stopSignal(e.Signal, repeated)
	case live && e.Meaning == forward.Suspend && to == e.Signal:
		d.emit(ForwardSignal{Signal: to}, Suspend{})
	case e.Meaning == forward.Pass || live && e.Meaning == forward.Suspend:
		d.forwardSignal(to, false)
	}
}

// countStop counts a stop signal that is the first one, or that arrives after sameStopWindow. The count has a maximum,
// because each change of the count is recorded, and the ledger has a maximum size. The signal may be the first reason
// for a stop, even after the target's end, so countStop starts the deadline.
func (d *decision) countStop(sig int) {
	d.startDeadline()
	if d.Stop.Count == 0 {
		d.Stop.WindowOpen, d.Stop.Received = true, []int{sig}
		d.emit(timer(SameStopTimer, 0, sameStopWindow))
	}
	d.Stop.Count = min(d.Stop.Count+1, 2)
}

// furtherStopSignal handles a further stop signal within sameStopWindow. It forwards each kind of signal once, or holds
// the signal until the first step. If the steps of Policy.Schedule have begun, furtherStopSignal forwards none. In a
// state after Stopping it does nothing.
func (d *decision) furtherStopSignal(sig int) {
	if d.State > Stopping || slices.Contains(d.Stop.Received, sig) {
		return
	}
	d.Stop.Received = append(slices.Clip(d.Stop.Received), sig)
	switch {
	case d.Stop.Step == 0:
		d.Stop.Held = append(slices.Clip(d.Stop.Held), sig)
	case len(d.Policy.Schedule) == 0:
		d.forwardSignal(d.Policy.Rewritten(sig), true)
	}
}

// stopSignal handles a stop signal in Running, Stopping or Sweeping, unless that signal kills. repeated means that the
// signal is not the first, and has come after sameStopWindow.
func (d *decision) stopSignal(sig int, repeated bool) {
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
	switch {
	case d.Stop.Phase == PhaseDrain:
		d.emit(stopTimers(0, DrainTimer)...)
		d.nextStep()
	case d.State == Sweeping && d.WaitsForSurvivors():
		d.emit(stopTimers(0, TimeoutTimer)...)
		d.nextStep()
	case d.State == Sweeping:
		d.emit(SignalSurvivors{Signal: SigTERM, Resume: true, Rest: !repeated})
	case d.Stop.Phase == PhaseSignals:
		d.forwardSignal(d.Policy.Rewritten(sig), true)
	}
}

// askSurvivors sends SIGTERM to the survivors that have received no stop signal. It does not apply Policy.Rewrite,
// which replaces stop signals only for the target.
func (d *decision) askSurvivors() { d.emit(SignalSurvivors{Signal: SigTERM, Resume: true, Rest: true}) }

// forwardSignal sends a signal to the target or its group, or after the target's end to the survivors. resume means
// that SIGCONT follows. For the signal 0, forwardSignal sends nothing.
func (d *decision) forwardSignal(sig int, resume bool) {
	switch {
	case sig == 0:
	case d.Target.Ended:
		d.emit(SignalSurvivors{Signal: sig, Resume: resume})
	default:
		d.emit(ForwardSignal{sig, d.Policy.ForwardTo == ForwardToTarget, resume})
	}
}

// timeUp handles the end of a timer of the run.
func (d *decision) timeUp(name TimerName) {
	stopping := d.State == Stopping || d.State == Sweeping && !d.Stop.Escalated
	switch {
	case name == TimeoutTimer && d.State == Running:
		d.Stop.TimedOut = true
		d.stop()
	case name == TimeoutTimer && d.State == Sweeping && d.WaitsForSurvivors():
		d.Stop.TimedOut = true
		d.startDeadline()
		d.nextStep()
	case name == SameStopTimer:
		d.Stop.WindowOpen = false
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
	d.emit(stopTimers(0, TimeoutTimer)...)
	d.nextOnStop()
}

// startDeadline starts the deadline at the first reason for a stop. It shortens the timers of cleanup commands that run
// already.
func (d *decision) startDeadline() {
	if d.Stop.DeadlineStarted || d.Policy.Deadline == 0 {
		return
	}
	d.Stop.DeadlineStarted = true
	if d.Policy.DeadlineFromOuter {
		d.emit(timer(BudgetTimer, 0, d.Policy.Deadline))
	}
	if d.State < Cleaning {
		d.emit(timer(DeadlineTimer, 0, d.StoppingTime()))
	}
	for _, id := range d.Cleanup.Running(cleanup.AtExit) {
		c, _ := d.Cleanup.Get(id)
		for _, t := range []startTimer{d.limitTimer(c), d.killTimer(c), d.abandonTimer(id)} {
			t.shortenOnly = true
			d.emit(t)
		}
	}
}

// nextOnStop starts the next on-stop command. After the last one it begins the drain. Without a drain, or after a
// second reason for the stop, it begins the first step. If the target has ended, it begins Sweeping instead.
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
	d.emit(timer(DrainTimer, 0, d.Policy.Drain))
}

// nextStep begins the next step of the schedule, for the target, or for the survivors after the target's end. After the
// last step it kills.
func (d *decision) nextStep() {
	steps := d.Policy.Steps()
	if d.Stop.Step == len(steps) {
		d.kill()
		return
	}
	step := steps[d.Stop.Step]
	d.Stop.Phase = PhaseSignals
	d.Stop.Step++
	switch {
	case d.Target.Ended && step.Signal == NoSignal:
	case d.Target.Ended:
		d.askSurvivors()
	case d.Stop.Step == 1 && step.Signal == 0 && len(d.Stop.Held) > 0:
		for _, sig := range d.Stop.Held {
			d.forwardSignal(d.Policy.Rewritten(sig), true)
		}
	default:
		d.forwardSignal(d.stepSignal(), true)
	}
	d.Stop.Held = nil
	d.emit(timer(GraceTimer, 0, step.Wait))
}

// stepSignals returns the signals that the target gets in the present step, without duplicates; 0: none. If the step
// names no signal, the list also contains all stop signals that arrived within sameStopWindow, rewritten.
func (r Run) stepSignals() []int {
	signals := []int{r.stepSignal()}
	if r.Policy.Steps()[r.Stop.Step-1].Signal != 0 {
		return signals
	}
	for _, sig := range r.Stop.Received {
		if to := r.Policy.Rewritten(sig); !slices.Contains(signals, to) {
			signals = append(signals, to)
		}
	}
	return signals
}

// stepSignal returns the signal for the target in the present step, or 0.
func (r Run) stepSignal() int {
	switch sig := r.Policy.Steps()[r.Stop.Step-1].Signal; {
	case sig > 0:
		return sig
	case sig == NoSignal:
		return 0
	case r.Stop.Signal != 0:
		return r.Policy.Rewritten(r.Stop.Signal)
	}
	return r.Policy.Rewritten(SigTERM)
}

// kill sends SIGKILL to the tree and to the on-stop commands, which at some levels are not members of the tree. An
// on-stop command that has no pid yet ends.
func (d *decision) kill() {
	d.Stop.Escalated = true
	d.emit(stopTimers(0, GraceTimer, DrainTimer)...)
	for _, id := range d.Cleanup.Running(cleanup.AtStop) {
		if c, _ := d.Cleanup.Get(id); c.PID != 0 {
			d.killCommand(id)
			continue
		}
		d.emit(stopTimers(id, RetryTimer, LimitTimer)...)
		d.end(id, cleanup.Outcome{Error: "could not be started before SIGKILL", Unstarted: true})
	}
	if d.State == Stopping && d.Target.Ended {
		d.sweep()
		return
	}
	if d.State == Stopping {
		d.State = Killing
	}
	d.emit(KillTree{})
}

// sweep begins Sweeping after the end of the target. If KeepsSurvivors is true, sweep leaves the survivors alone, and
// cleanup begins. Otherwise, after SIGKILL, sweep kills them. Without a SIGKILL, it stops them, or waits for them
// (WaitSurvivors). In a stop, survivors have the rest of the grace period to end, or all of it if no step has begun.
func (d *decision) sweep() {
	waits := d.WaitsForSurvivors() && d.State != Stopping // no stop has begun
	d.State, d.Stop.Held = Sweeping, nil
	// While the run waits for survivors, the time limit still applies.
	if !waits {
		d.emit(stopTimers(0, TimeoutTimer)...)
	}
	d.emit(stopTimers(0, DrainTimer)...)
	switch {
	case d.KeepsSurvivors():
		d.emit(LeaveSurvivors{})
		d.clean()
	case d.Stop.Escalated:
		d.emit(KillTree{})
	case waits:
	case d.Stop.Step == 0:
		d.nextStep()
	case d.Policy.Survivors == WaitSurvivors && !d.Stop.Recovered:
	default:
		d.askSurvivors()
	}
}

// StoppingTime returns the part of the deadline before the cleanup commands, without OwnTime. If an outer run has set
// the deadline, the cleanup commands get at most half of it.
func (r Run) StoppingTime() time.Duration {
	d, cleaning := r.Policy.Deadline, r.cleaningTime()
	if r.Policy.DeadlineFromOuter {
		cleaning = min(cleaning, d/2)
	}
	return TimeBeforeCleanup(d, cleaning)
}

// TimeBeforeCleanup returns the part of a deadline that is left before cleanup, if cleanup takes the time cleaning and
// graceful itself takes OwnTime.
func TimeBeforeCleanup(deadline, cleaning time.Duration) time.Duration {
	return deadline - cleaning - OwnTime(deadline)
}

// OwnTime returns the part of a deadline that is reserved for graceful's own work: a tenth, at most a second.
func OwnTime(deadline time.Duration) time.Duration { return min(deadline/10, time.Second) }

// cleaningTime returns the sum of the limits of all cleanup commands that are pending or claimed. In parallel order it
// returns the longest of these limits.
func (r Run) cleaningTime() (sum time.Duration) {
	for c := range r.Cleanup.Entries.All() {
		switch limit := c.Command.Limit; {
		case c.When != cleanup.AtExit || c.Progress > cleanup.Claimed:
		case r.Policy.Order == cleanup.Parallel:
			sum = max(sum, limit)
		default:
			sum = AddDurations(sum, limit)
		}
	}
	return sum
}

// AddDurations adds durations that are at least 0. If the sum overflows, it returns the longest duration.
func AddDurations(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
