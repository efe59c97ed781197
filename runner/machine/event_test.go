package machine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"graceful/cleanup"
	"graceful/forward"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sameRun compares runs field by field; whether a list is nil or empty means nothing.
var sameRun = cmp.Options{cmp.AllowUnexported(Deadline{}), cmpopts.EquateEmpty()}

func entry(id int, change func(*cleanup.Entry)) func(*Run) {
	return func(r *Run) { r.Cleanup.Stack = r.Cleanup.Update(id, change) }
}

func notStarted(id int) func(*Run) { return entry(id, func(c *cleanup.Entry) { c.PID = 0 }) }

// What an event leaves behind in a run, and that it leaves nothing else. (What it has done about it, the rows tell.)
func TestAnEventRecordsWhatItTellsAndNothingElse(t *testing.T) {
	claimed := entry(2, func(c *cleanup.Entry) { c.Progress = cleanup.Claimed })
	over := func(o cleanup.Outcome) func(*Run) {
		return func(r *Run) {
			entry(2, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, o })(r)
			r.Cleanup.Clearing = true
		}
	}
	// The second command is over, what it left is not.
	clearing := at(Cleaning, over(cleanup.Outcome{}))
	lastCleared := at(Cleaning, over(cleanup.Outcome{}), entry(1, func(c *cleanup.Entry) { c.Progress = cleanup.Ended }))

	for name, c := range map[string]struct {
		from   Run
		on     Event
		change func(*Run)
	}{
		"the target's pid": {at(Starting), TargetStarted{PID: 100}, func(r *Run) { r.State, r.Target.PID = Running, 100 }},
		"that it could not be started": {at(Starting), TargetFailed{Status: 126}, func(r *Run) {
			r.State, r.Target.Ended, r.Target.Failed, r.Target.Ending = Cleaning, true, true, Ending{Code: 126}
			claimed(r)
		}},
		"the first stop signal": {at(Running), stop(sigINT), func(r *Run) {
			r.State, r.Stop.Signal, r.Stop.Count, r.Stop.Phase, r.Stop.Step = Stopping, sigINT, 1, Signalling, 1
		}},
		"not the second":                  {at(Stopping), stop(sigINT), func(r *Run) { r.Stop.Count = 2 }},
		"nothing of what is only passed":  {at(Running), pass(sigHUP), func(*Run) {}},
		"that the target had to be shot":  {at(Stopping), TimeUp{GraceTimer}, func(r *Run) { r.State, r.Stop.Escalated = Killing, true }},
		"that survivors had to be":        {at(Sweeping), TimeUp{GraceTimer}, func(r *Run) { r.Stop.Escalated = true }},
		"what came after the end as that": {at(Sweeping), stop(SigTERM), func(r *Run) { r.Stop.Count = 1 }},
		"the target's exit and its time":  {at(Running), TargetEnded{Ending: Ending{Code: 7}, After: time.Minute}, ended(Ending{Code: 7}, time.Minute)},
		"the signal that ended it":        {at(Stopping), TargetEnded{Ending: Ending{Signal: 15}, After: time.Hour}, ended(Ending{Signal: 15}, time.Hour)},
		"its end after SIGKILL":           {at(Killing), TargetEnded{Ending: Ending{Signal: 9}, After: time.Second}, ended(Ending{Signal: 9}, time.Second)},
		"that a command may have begun":   {at(Sweeping), TreeEmptied{}, func(r *Run) { r.State = Cleaning; claimed(r) }},
		"the pid of a command":            {at(Cleaning, notStarted(2)), CommandStarted{ID: 2, PID: 201}, entry(2, func(c *cleanup.Entry) { c.PID = 201 })},
		"the exit status of a command":    {at(Cleaning), CommandEnded{ID: 2, Ending: Ending{Code: 3}}, over(cleanup.Outcome{Code: 3})},
		"the signal that ended a command": {at(Cleaning), CommandEnded{ID: 2, Ending: Ending{Signal: 9}}, over(cleanup.Outcome{Signal: 9})},
		"the success of a command":        {at(Cleaning), CommandEnded{ID: 2, Ending: Ending{}}, over(cleanup.Outcome{})},
		"why a command did not start":     {at(Cleaning, notStarted(2)), CommandFailed{2, "none", false}, over(cleanup.Outcome{Error: "none"})},
		"not what may yet succeed":        {at(Cleaning, notStarted(2)), CommandFailed{2, "later", true}, func(*Run) {}},
		"that a command is over its time": {at(Cleaning), CommandTimer{2, LimitTimer}, entry(2, func(c *cleanup.Entry) { c.TimedOut = true })},
		"not that it is being killed":     {at(Cleaning), CommandTimer{2, KillTimer}, func(*Run) {}},
		"that one never could be started": {at(Cleaning, notStarted(2)), CommandTimer{2, LimitTimer}, func(r *Run) {
			over(cleanup.Outcome{Error: "could not be started within its time limit"})(r)
			entry(2, func(c *cleanup.Entry) { c.TimedOut = true })(r)
		}},
		"that one was given up": {at(Cleaning), CommandTimer{2, AbandonTimer}, over(cleanup.Outcome{Error: "did not die of SIGKILL"})},
		"that the next one may have begun": {clearing, TreeEmptied{}, func(r *Run) {
			r.Cleanup.Clearing = false
			entry(1, func(c *cleanup.Entry) { c.Progress = cleanup.Claimed })(r)
		}},
		"that there is no next one": {lastCleared, TreeEmptied{}, func(r *Run) { r.State, r.Cleanup.Clearing = Done, false }},
	} {
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

func ended(e Ending, after time.Duration) func(*Run) {
	return func(r *Run) {
		r.State, r.Target.Ended, r.Target.Ending, r.Target.Duration, r.Stop.Phase, r.Stop.Step = Sweeping, true, e, after, Signalling, 1
	}
}

// What a state has no use for: it changes nothing and asks for nothing. All that the contract gives a meaning is
// named; everything else in the product of states and events is tried.
func TestWhatMeansNothingInAStateIsIgnored(t *testing.T) {
	events := map[string]Event{
		"started": TargetStarted{PID: 999}, "failed": TargetFailed{Status: 126}, "ended": TargetEnded{Ending: Ending{Code: 9}, After: time.Hour},
		"stop": stop(SigTERM), "pass": pass(sigUSR1), "job": job(sigTSTP),
		"ours": Signalled{17, forward.Ours}, "uncatchable": Signalled{9, forward.Uncatchable},
		"grace over": TimeUp{GraceTimer}, "drained": TimeUp{DrainTimer}, "empty": TreeEmptied{},
	}
	for _, id := range []int{-1, 0, 1, 2, 3} {
		for name, e := range map[string]Event{
			"started": CommandStarted{ID: id, PID: 999}, "failed": CommandFailed{id, "none", false}, "refused": CommandFailed{id, "none", true},
			"ended": CommandEnded{ID: id, Ending: Ending{Code: 9}}, "retry": CommandTimer{id, RetryTimer}, "limit": CommandTimer{id, LimitTimer},
			"kill": CommandTimer{id, KillTimer}, "abandon": CommandTimer{id, AbandonTimer},
		} {
			events[fmt.Sprintf("command %d %s", id, name)] = e
		}
	}
	escalated := at(Sweeping, func(r *Run) { r.Stop.Escalated = true })
	clearing := at(Cleaning, func(r *Run) {
		entry(2, func(c *cleanup.Entry) { c.Progress = cleanup.Ended })(r)
		r.Cleanup.Clearing = true
	})
	for _, c := range []struct {
		name    string
		run     Run
		meaning []string
	}{
		{"starting", at(Starting), []string{"started", "failed"}},
		{"running", at(Running), []string{"stop", "pass", "job", "ended"}},
		{"stopping", at(Stopping), []string{"stop", "pass", "job", "ended", "grace over"}},
		{"killing", at(Killing), []string{"ended", "stop"}},
		{"sweeping", at(Sweeping), []string{"stop", "pass", "grace over", "empty"}},
		{"sweeping after SIGKILL", escalated, []string{"empty", "stop"}},
		{"cleaning", at(Cleaning, notStarted(2)), []string{"stop", "command 2 started", "command 2 failed", "command 2 refused", "command 2 ended",
			"command 2 retry", "command 2 limit", "command 2 kill", "command 2 abandon"}},
		{"cleaning, between two commands", clearing, []string{"empty", "stop"}},
		{"done", at(Done), nil},
	} {
		for name, e := range events {
			got, todo := Next(c.run, e)
			acts := !cmp.Equal(c.run, got, sameRun) || len(todo) > 0
			if means := slices.Contains(c.meaning, name); acts != means {
				t.Errorf("%s: %q: acts on it: %t, want %t: %+v, %+v", c.name, name, acts, means, got, todo)
			}
		}
	}
}

// What was never started has no pid, and 0 would be our own group.
func TestOnlyWhatWasStartedIsKilled(t *testing.T) {
	for name, e := range map[string]Event{
		"it is missing":    CommandFailed{2, "none", false},
		"it came too late": CommandTimer{2, LimitTimer},
	} {
		_, todo := Next(at(Cleaning, notStarted(2)), e)
		for _, a := range todo {
			switch a.(type) {
			case KillCommand, TerminateCommand:
				t.Errorf("%s: %#v", name, a)
			}
		}
		if !slices.Contains(todo, Action(KillTree{})) {
			t.Errorf("%s: the run does not go on: %+v", name, todo)
		}
	}
}
