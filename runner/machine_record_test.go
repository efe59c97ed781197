package runner

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/tree"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sameRun compares runs field by field; whether a list is nil or empty means nothing.
var sameRun = cmp.Options{cmp.AllowUnexported(Deadline{}), cmpopts.EquateEmpty()}

func entry(id int, change func(*cleanup.Entry)) func(*Run) {
	return func(r *Run) { r.Cleanup = r.Cleanup.Update(id, change) }
}

func notStarted(id int) func(*Run) { return entry(id, func(c *cleanup.Entry) { c.PID = 0 }) }

// What an event leaves behind in a run, and that it leaves nothing else. (What it has done about it, the rows tell.)
func TestAnEventRecordsWhatItTellsAndNothingElse(t *testing.T) {
	claimed := entry(2, func(c *cleanup.Entry) { c.Progress = cleanup.Claimed })
	over := func(o cleanup.Outcome) func(*Run) {
		return func(r *Run) {
			entry(2, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, o })(r)
			r.Clearing = true
		}
	}
	// The second command is over, what it left is not.
	clearing := at(Cleaning, over(cleanup.Outcome{}))
	lastCleared := at(Cleaning, over(cleanup.Outcome{}), entry(1, func(c *cleanup.Entry) { c.Progress = cleanup.Ended }))

	for name, c := range map[string]struct {
		from   Run
		on     event
		change func(*Run)
	}{
		"the target's pid": {at(Starting), targetStarted{pid: 100}, func(r *Run) { r.State, r.TargetPID = Running, 100 }},
		"that it could not be started": {at(Starting), targetFailed{status: 126}, func(r *Run) {
			r.State, r.Ended, r.Failed, r.Ending = Cleaning, true, true, Ending{Code: 126}
			claimed(r)
		}},
		"the first stop signal":           {at(Running), stop(sigINT), func(r *Run) { r.State, r.StopSignal, r.Stops, r.Phase, r.Step = Stopping, sigINT, 1, Signalling, 1 }},
		"not the second":                  {at(Stopping), stop(sigINT), func(r *Run) { r.Stops = 2 }},
		"nothing of what is only passed":  {at(Running), pass(sigHUP), func(*Run) {}},
		"that the target had to be shot":  {at(Stopping), timeUp{graceTimer}, func(r *Run) { r.State, r.Escalated = Killing, true }},
		"that survivors had to be":        {at(Sweeping), timeUp{graceTimer}, func(r *Run) { r.Escalated = true }},
		"what came after the end as that": {at(Sweeping), stop(sigTERM), func(r *Run) { r.Stops = 1 }},
		"the target's exit and its time":  {at(Running), targetEnded{ending: Ending{Code: 7}, after: time.Minute}, ended(Ending{Code: 7}, time.Minute)},
		"the signal that ended it":        {at(Stopping), targetEnded{ending: Ending{Signal: 15}, after: time.Hour}, ended(Ending{Signal: 15}, time.Hour)},
		"its end after SIGKILL":           {at(Killing), targetEnded{ending: Ending{Signal: 9}, after: time.Second}, ended(Ending{Signal: 9}, time.Second)},
		"that a command may have begun":   {at(Sweeping), treeEmptied{}, func(r *Run) { r.State = Cleaning; claimed(r) }},
		"the pid of a command":            {at(Cleaning, notStarted(2)), commandStarted{id: 2, pid: 201}, entry(2, func(c *cleanup.Entry) { c.PID = 201 })},
		"the exit status of a command":    {at(Cleaning), commandEnded{id: 2, ending: Ending{Code: 3}}, over(cleanup.Outcome{Code: 3})},
		"the signal that ended a command": {at(Cleaning), commandEnded{id: 2, ending: Ending{Signal: 9}}, over(cleanup.Outcome{Signal: 9})},
		"the success of a command":        {at(Cleaning), commandEnded{id: 2, ending: Ending{}}, over(cleanup.Outcome{})},
		"why a command did not start":     {at(Cleaning, notStarted(2)), commandFailed{2, "none", false}, over(cleanup.Outcome{Error: "none"})},
		"not what may yet succeed":        {at(Cleaning, notStarted(2)), commandFailed{2, "later", true}, func(*Run) {}},
		"that a command is over its time": {at(Cleaning), commandTimer{2, limitTimer}, entry(2, func(c *cleanup.Entry) { c.TimedOut = true })},
		"not that it is being killed":     {at(Cleaning), commandTimer{2, killTimer}, func(*Run) {}},
		"that one never could be started": {at(Cleaning, notStarted(2)), commandTimer{2, limitTimer}, func(r *Run) {
			over(cleanup.Outcome{Error: "could not be started within its time limit"})(r)
			entry(2, func(c *cleanup.Entry) { c.TimedOut = true })(r)
		}},
		"that one was given up": {at(Cleaning), commandTimer{2, abandonTimer}, over(cleanup.Outcome{Error: "did not die of SIGKILL"})},
		"that the next one may have begun": {clearing, treeEmptied{}, func(r *Run) {
			r.Clearing = false
			entry(1, func(c *cleanup.Entry) { c.Progress = cleanup.Claimed })(r)
		}},
		"that there is no next one": {lastCleared, treeEmptied{}, func(r *Run) { r.State, r.Clearing = Done, false }},
	} {
		t.Run(name, func(t *testing.T) {
			want := c.from
			c.change(&want)
			got, _ := next(c.from, c.on)
			if diff := cmp.Diff(want, got, sameRun); diff != "" {
				t.Errorf("the run (-want +got):\n%s", diff)
			}
		})
	}
}

func ended(e Ending, after time.Duration) func(*Run) {
	return func(r *Run) {
		r.State, r.Ended, r.Ending, r.Duration, r.Phase, r.Step = Sweeping, true, e, after, Signalling, 1
	}
}

// What a state has no use for: it changes nothing and asks for nothing. All that the contract gives a meaning is
// named; everything else in the product of states and events is tried.
func TestWhatMeansNothingInAStateIsIgnored(t *testing.T) {
	events := map[string]event{
		"started": targetStarted{pid: 999}, "failed": targetFailed{status: 126}, "ended": targetEnded{ending: Ending{Code: 9}, after: time.Hour},
		"stop": stop(sigTERM), "pass": pass(sigUSR1), "job": job(sigTSTP),
		"ours": signalled{17, forward.Ours}, "uncatchable": signalled{9, forward.Uncatchable},
		"grace over": timeUp{graceTimer}, "drained": timeUp{drainTimer}, "empty": treeEmptied{},
	}
	for _, id := range []int{-1, 0, 1, 2, 3} {
		for name, e := range map[string]event{
			"started": commandStarted{id: id, pid: 999}, "failed": commandFailed{id, "none", false}, "refused": commandFailed{id, "none", true},
			"ended": commandEnded{id: id, ending: Ending{Code: 9}}, "retry": commandTimer{id, retryTimer}, "limit": commandTimer{id, limitTimer},
			"kill": commandTimer{id, killTimer}, "abandon": commandTimer{id, abandonTimer},
		} {
			events[fmt.Sprintf("command %d %s", id, name)] = e
		}
	}
	escalated := at(Sweeping, func(r *Run) { r.Escalated = true })
	clearing := at(Cleaning, func(r *Run) {
		entry(2, func(c *cleanup.Entry) { c.Progress = cleanup.Ended })(r)
		r.Clearing = true
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
			got, todo := next(c.run, e)
			acts := !cmp.Equal(c.run, got, sameRun) || len(todo) > 0
			if means := slices.Contains(c.meaning, name); acts != means {
				t.Errorf("%s: %q: acts on it: %t, want %t: %+v, %+v", c.name, name, acts, means, got, todo)
			}
		}
	}
}

// What was never started has no pid, and 0 would be our own group.
func TestOnlyWhatWasStartedIsKilled(t *testing.T) {
	for name, e := range map[string]event{
		"it is missing":    commandFailed{2, "none", false},
		"it came too late": commandTimer{2, limitTimer},
	} {
		_, todo := next(at(Cleaning, notStarted(2)), e)
		for _, a := range todo {
			switch a.(type) {
			case killCommand, terminateCommand:
				t.Errorf("%s: %#v", name, a)
			}
		}
		if !slices.Contains(todo, action(killTree{})) {
			t.Errorf("%s: the run does not go on: %+v", name, todo)
		}
	}
}

// Whoever takes a run over knows of it what was written: an option that is not, is one that would be forgotten.
func TestAllThatARunWasAskedForIsWrittenDown(t *testing.T) {
	var config Config
	fill(t, reflect.ValueOf(&config).Elem(), "Config")
	config.Order, config.Contain, config.ForwardTo, config.Survivors = cleanup.Parallel, tree.Group, ForwardToTarget, KeepSurvivors
	config.Defer = DeferOn
	config.Command[0] += "\xff\x00"
	text, err := json.Marshal(firstRecord(newRun("id", config), inherited{}))
	if err != nil {
		t.Fatal(err)
	}
	m, err := remember([]json.RawMessage{text})
	if err != nil {
		t.Fatal(err)
	}
	// These are settled before it is written.
	config.Guard, config.StateDir, config.StrictStateDir, config.Named = "", "", false, false
	if diff := cmp.Diff(newRun("id", config), m.run, sameRun); diff != "" {
		t.Errorf("forgotten (-written +read):\n%s", diff)
	}
}

// fill gives every field a value of its own that is not the zero value.
func fill(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2000, 1, 2, 3, 4, 5, 6, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(t, v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[int]int{7: len(path), 8: 0}))
	case reflect.String:
		v.SetString(path + " <&> \u2028\n")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(len(path)))
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(uint64(len(path)))
	default:
		t.Fatalf("%s is a %v: is that data?", path, v.Kind())
	}
}
