package machine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"graceful/cleanup"
	"graceful/forward"
)

// sameRun makes go-cmp compare all fields of runs. A nil list equals an empty one.
var sameRun = cmp.Options{cmpopts.EquateEmpty(),
	cmp.Transformer("entries", func(l cleanup.List) []*cleanup.Entry { return slices.Collect(l.All()) })}

// finished returns a change of a run: command 2 of a run in Cleaning has ended with an outcome, and its remaining
// processes are being killed.
func finished(o cleanup.Outcome) func(*Run) {
	return func(r *Run) {
		clearing(r)
		entry(2, func(c *cleanup.Entry) { c.Outcome = o })(r)
	}
}

// swept returns a change of a run: the target has ended as e says, after the given time, and the first step of a stop
// has begun for the survivors.
func swept(e Ending, after time.Duration) func(*Run) {
	return func(r *Run) {
		r.State, r.Stop.Phase, r.Stop.Step = Sweeping, PhaseSignals, 1
		r.Target.Ended, r.Target.Ending, r.Target.Duration = true, e, after
	}
}

// effect is a row of a test: a run, an event, and the change of that run which the event must cause.
type effect struct {
	from   Run
	on     Event
	change func(*Run)
}

func checkEffects(t *testing.T, effects map[string]effect) {
	t.Helper()
	for name, c := range effects {
		t.Run(name, func(t *testing.T) {
			want := c.from
			c.change(&want)
			got, _ := Next(c.from, c.on)
			if diff := cmp.Diff(want, got, sameRun); diff != "" {
				t.Errorf("the run (-want +got):\n%s", diff)
			}
		})
	}
}

// Each event changes the listed fields of the run, and no others.
func TestNext_changesOnlyFieldsOfTheEvent(t *testing.T) {
	claimed := entry(2, func(c *cleanup.Entry) { c.Progress = cleanup.Claimed })
	checkEffects(t, map[string]effect{
		"the target's pid": {runIn(Starting), TargetStarted{PID: 100}, func(r *Run) {
			r.State, r.Target.PID = Running, 100
		}},
		"the target cannot be started": {runIn(Starting), TargetFailed{Status: 126}, func(r *Run) {
			r.State, r.Target.Ended, r.Target.Failed, r.Target.Ending = Cleaning, true, true, Ending{Code: 126}
			claimed(r)
		}},
		"the first stop signal": {runIn(Running), stopSignal(sigINT), func(r *Run) {
			r.State, r.Stop.Signal, r.Stop.Count, r.Stop.Phase, r.Stop.Step = Stopping, sigINT, 1, PhaseSignals, 1
			r.Stop.WindowOpen, r.Stop.Received = true, []int{sigINT}
		}},
		"the second stop signal": {runIn(Stopping), stopSignal(sigINT), func(r *Run) { r.Stop.Count = 2 }},
		"another signal":         {runIn(Running), otherSignal(sigHUP), func(*Run) {}},
		"SIGKILL to the target": {runIn(Stopping), TimeUp{GraceTimer}, func(r *Run) {
			r.State, r.Stop.Escalated = Killing, true
		}},
		"SIGKILL to survivors": {runIn(Sweeping), TimeUp{GraceTimer}, escalated},
		"a stop signal after the target's end": {runIn(Sweeping), stopSignal(SigTERM), func(r *Run) {
			r.Stop.Count, r.Stop.WindowOpen, r.Stop.Received = 1, true, []int{SigTERM}
		}},
		"the target's exit status and time": {runIn(Running),
			TargetEnded{Ending: Ending{Code: 7}, After: time.Minute}, swept(Ending{Code: 7}, time.Minute)},
		"the signal that ended the target": {runIn(Stopping),
			TargetEnded{Ending: Ending{Signal: 15}, After: time.Hour}, swept(Ending{Signal: 15}, time.Hour)},
		"the target's end after SIGKILL": {runIn(Killing),
			TargetEnded{Ending: Ending{Signal: 9}, After: time.Second}, swept(Ending{Signal: 9}, time.Second)},
		"a claim": {runIn(Sweeping), TreeEmptied{}, func(r *Run) {
			r.State = Cleaning
			claimed(r)
		}},
	})
}

func TestNext_changesOnlyFieldsOfTheCommand(t *testing.T) {
	timedOut := entry(2, func(c *cleanup.Entry) { c.TimedOut = true })
	unstarted := runIn(Cleaning, notStarted(2))
	lastCleared := runIn(Cleaning, clearing, entry(1, func(c *cleanup.Entry) { c.Progress = cleanup.Ended }))
	checkEffects(t, map[string]effect{
		"a command's pid": {unstarted, CommandStarted{ID: 2, PID: 201}, entry(2, func(c *cleanup.Entry) { c.PID = 201 })},
		"a command's exit status": {runIn(Cleaning), CommandEnded{ID: 2, Ending: Ending{Code: 3}},
			finished(cleanup.Outcome{Code: 3})},
		"the signal that ended a command": {runIn(Cleaning), CommandEnded{ID: 2, Ending: Ending{Signal: 9}},
			finished(cleanup.Outcome{Signal: 9})},
		"a command's success": {runIn(Cleaning), CommandEnded{ID: 2, Ending: Ending{}}, finished(cleanup.Outcome{})},
		"why a command cannot be started": {unstarted, CommandFailed{ID: 2, Err: "none"},
			finished(cleanup.Outcome{Error: "none"})},
		"a resource is missing for good": {unstarted, CommandFailed{ID: 2, Err: "none", Unstarted: true},
			finished(cleanup.Outcome{Error: "none", Unstarted: true})},
		"why the start of a command failed": {runIn(Cleaning), CommandFailed{ID: 2, Err: "none"},
			finished(cleanup.Outcome{Error: "none"})},
		"a resource is missing":    {unstarted, CommandFailed{ID: 2, Err: "later", Transient: true}, func(*Run) {}},
		"a command over its limit": {runIn(Cleaning), CommandTimer{2, LimitTimer}, timedOut},
		"SIGKILL to a command":     {runIn(Cleaning), CommandTimer{2, KillTimer}, func(*Run) {}},
		"a command that never started": {unstarted, CommandTimer{2, LimitTimer}, func(r *Run) {
			finished(cleanup.Outcome{Error: "could not be started within its time limit", Unstarted: true})(r)
			timedOut(r)
		}},
		"a command that is given up": {runIn(Cleaning), CommandTimer{2, AbandonTimer},
			finished(cleanup.Outcome{Error: "did not die of SIGKILL"})},
		"the claim of the next command": {runIn(Cleaning, clearing), TreeEmptied{}, func(r *Run) {
			r.Cleanup.Clearing = false
			entry(1, func(c *cleanup.Entry) { c.Progress = cleanup.Claimed })(r)
		}},
		"no next command": {lastCleared, TreeEmptied{}, func(r *Run) { r.State, r.Cleanup.Clearing = Done, false }},
	})
}

// In each state, each listed event changes the run or causes an action. No other event does so.
func TestNext_ignoresOtherEvents(t *testing.T) {
	ended := Ending{Code: 9}
	events := map[string]Event{
		"started":     TargetStarted{PID: 999},
		"failed":      TargetFailed{Status: 126},
		"ended":       TargetEnded{Ending: ended, After: time.Hour},
		"stop":        stopSignal(SigTERM),
		"other":       otherSignal(sigUSR1),
		"suspend":     suspendSignal(sigTSTP),
		"ours":        Signalled{Signal: 17, Meaning: forward.Ours},
		"uncatchable": Signalled{Signal: 9, Meaning: forward.Uncatchable},
		"grace ends":  TimeUp{GraceTimer},
		"drain ends":  TimeUp{DrainTimer},
		"empty":       TreeEmptied{},
	}
	for _, id := range []int{-1, 0, 1, 2, 3} {
		for name, e := range map[string]Event{
			"started": CommandStarted{ID: id, PID: 999},
			"failed":  CommandFailed{ID: id, Err: "none"},
			"refused": CommandFailed{ID: id, Err: "none", Transient: true},
			"ended":   CommandEnded{ID: id, Ending: ended},
			"retry":   CommandTimer{id, RetryTimer},
			"limit":   CommandTimer{id, LimitTimer},
			"kill":    CommandTimer{id, KillTimer},
			"abandon": CommandTimer{id, AbandonTimer},
		} {
			events[fmt.Sprintf("command %d %s", id, name)] = e
		}
	}
	for _, c := range []struct {
		name    string
		run     Run
		meaning []string // names of the events that have an effect
	}{
		{"starting", runIn(Starting), []string{"started", "failed"}},
		{"running", runIn(Running), []string{"stop", "other", "suspend", "ended", "failed"}},
		{"stopping", runIn(Stopping), []string{"stop", "other", "suspend", "ended", "failed", "grace ends"}},
		{"killing", runIn(Killing), []string{"ended", "failed", "stop"}},
		{"sweeping", runIn(Sweeping), []string{"stop", "other", "grace ends", "empty"}},
		{"sweeping after SIGKILL", runIn(Sweeping, escalated), []string{"empty", "stop"}},
		{"cleaning", runIn(Cleaning, notStarted(2)), []string{"stop", "command 2 started", "command 2 failed",
			"command 2 refused", "command 2 ended", "command 2 retry", "command 2 limit", "command 2 kill",
			"command 2 abandon"}},
		{"cleaning, between two commands", runIn(Cleaning, clearing), []string{"empty", "stop"}},
		{"done", runIn(Done), nil},
	} {
		for name, e := range events {
			got, actions := Next(c.run, e)
			acts := !cmp.Equal(c.run, got, sameRun) || len(actions) > 0
			if means := slices.Contains(c.meaning, name); acts != means {
				t.Errorf("%s: %q: has an effect: %t, want %t: %+v, %+v", c.name, name, acts, means, got, actions)
			}
		}
	}
}

// If a cleanup command without a pid ends, the machine does not signal it, because for kill(2) 0 means graceful's own
// group. The run continues with KillTree.
func TestNext_signalsNoCommandWithoutPID(t *testing.T) {
	for name, e := range map[string]Event{
		"its program is missing": CommandFailed{ID: 2, Err: "none"},
		"it started too late":    CommandTimer{2, LimitTimer},
	} {
		_, actions := Next(runIn(Cleaning, notStarted(2)), e)
		for _, a := range actions {
			switch a.(type) {
			case KillCommand, TerminateCommand:
				t.Errorf("%s: %#v", name, a)
			}
		}
		if !slices.Contains(actions, Action(KillTree{})) {
			t.Errorf("%s: the run does not continue: %+v", name, actions)
		}
	}
}
