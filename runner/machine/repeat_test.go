package machine

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// All stop signals before the end of the same-stop timer count as one stop, and graceful forwards each kind of them
// once. A caller may signal a process twice, or a process and then its group. A stop signal after that timer is a
// repeated one.
func TestNext_sameStop(t *testing.T) {
	kills := with(Running, killOnRepeat)
	r, actions := Next(kills, stopSignal(SigTERM))
	if !slices.Contains(actions, Action(timer(SameStopTimer, 0, sameStopWindow))) {
		t.Errorf("the first stop signal: %v", actions)
	}
	for _, again := range []struct {
		e    Event
		want []Action
	}{
		{stopSignal(SigTERM), nil},
		{stopSignal(sigINT), do(sendStop(sigINT))},
		{stopSignal(sigINT), nil},
		{TimeUp{SameStopTimer}, nil},
	} {
		r, actions = Next(r, again.e)
		if diff := cmp.Diff(again.want, actions, compareActions); diff != "" || r.State != Stopping || r.Stop.Count != 1 {
			t.Errorf("%+v: state %v, count %d, actions (-want +got):\n%s", again.e, r.State, r.Stop.Count, diff)
		}
	}
	if r = after(r, stopSignal(SigTERM)); r.State != Killing {
		t.Errorf("a repeated stop signal: state %v", r.State)
	}
}

func TestNext_repeatIgnored(t *testing.T) {
	ignore := func(o *options) { o.OnRepeat, o.Drain = RepeatIgnore, time.Hour }
	for _, s := range []State{Stopping, Sweeping, Cleaning} {
		for _, phase := range []Phase{PhaseDrain, PhaseSignals} {
			r := with(s, ignore, inPhase(phase), stoppedOnce)
			if got, actions := Next(r, stopSignal(SigTERM)); len(actions) > 0 || got.Stop.Count != 1 {
				t.Errorf("%v, phase %v: count %d, actions %v", s, phase, got.Stop.Count, actions)
			}
		}
	}
}

// Resume returns an action for the stop signal of the present step, unless Sent has recorded that signal.
func TestResume_signalWasSent(t *testing.T) {
	r := runIn(Stopping)
	if diff := cmp.Diff(do(sendStop(SigTERM)), Resume(r), compareActions); diff != "" {
		t.Errorf("the signal may not have been sent (-want +got):\n%s", diff)
	}
	if actions := Resume(after(r, Sent{Signal: SigTERM})); len(actions) > 0 {
		t.Errorf("the signal was sent: %v", actions)
	}
}

// If a step has several stop signals, Resume returns an action for each one that was not sent. If two steps have the
// same signal, Resume returns an action for the second step, although the first step has sent that signal.
func TestResume_eachSignal(t *testing.T) {
	r := after(runIn(Running), stopSignal(sigINT), Sent{Signal: sigINT}, stopSignal(SigTERM))
	if diff := cmp.Diff(do(sendStop(SigTERM)), Resume(r), compareActions); diff != "" {
		t.Errorf("the second signal of a stop (-want +got):\n%s", diff)
	}
	r = with(Running, func(o *options) { o.Schedule = []Step{{SigTERM, time.Second}, {SigTERM, time.Second}} })
	r = after(r, stopSignal(SigTERM), Sent{Signal: SigTERM})
	if actions := Resume(r); len(actions) > 0 {
		t.Errorf("the first step: %v", actions)
	}
	if diff := cmp.Diff(do(sendStop(SigTERM)), Resume(after(r, TimeUp{GraceTimer})), compareActions); diff != "" {
		t.Errorf("the second step (-want +got):\n%s", diff)
	}
}

// Commands share the deadline of an outer run: each command gets a part of the time that remains.
func TestAdvance_budget(t *testing.T) {
	now := time.Unix(1000, 0)
	r := with(Running, func(o *options) { o.Deadline, o.DeadlineFromOuter = 10*time.Second, true })
	r.Policy.Deadline, r.Policy.DeadlineFromOuter = 10*time.Second, true
	left := func(name TimerName, id int) time.Duration {
		at, _ := r.Due(Timer{name, id})
		return at.Sub(now)
	}
	r, _ = Advance(r, stopSignal(SigTERM), now)
	if got := left(DeadlineTimer, 0); got != 4*time.Second { // 10s minus half for the commands and 1s
		t.Errorf("the tree is killed after %v", got)
	}
	now = now.Add(4 * time.Second)
	r, _ = Advance(r, targetExits, now)
	r, _ = Advance(r, TreeEmptied{}, now)
	if got := left(LimitTimer, 2); got != 2*time.Second { // a third of 6s, while another command waits
		t.Errorf("the first command has %v", got)
	}
	now = now.Add(2 * time.Second)
	r, _ = Advance(r, CommandStarted{ID: 2, PID: 200}, now)
	r, _ = Advance(r, CommandTimer{2, LimitTimer}, now)
	if got := left(KillTimer, 2); got != time.Second {
		t.Errorf("the first command has %v after SIGTERM", got)
	}
	r, _ = Advance(r, CommandEnded{ID: 2}, now)
	r, _ = Advance(r, TreeEmptied{}, now)
	if got := left(LimitTimer, 1); got != 2*time.Second { // half of 4s
		t.Errorf("the last command has %v", got)
	}
}

// If a target has ended without a stop, commands have their full limits. A stop signal during cleanup starts the
// deadline, under which a limit includes the time for SIGKILL.
func TestAdvance_stopDuringCleanup(t *testing.T) {
	now := time.Unix(1000, 0)
	r := with(Sweeping, func(o *options) { o.Deadline = 100 * time.Second })
	r, _ = Advance(r, TreeEmptied{}, now)
	limit := func() time.Duration {
		at, _ := r.Due(Timer{LimitTimer, 2})
		return at.Sub(now)
	}
	if got := limit(); got != 30*time.Second {
		t.Errorf("the command has %v", got)
	}
	r, _ = Advance(r, stopSignal(SigTERM), now.Add(time.Second))
	if got := limit(); got != 29*time.Second { // 1 s, and 28 s from now on: the last 2 of 30 s are for SIGKILL
		t.Errorf("after a stop signal the command has %v", got)
	}
}
