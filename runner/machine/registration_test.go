package machine

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"graceful/cleanup"
)

// register returns the request to register a command with a time limit.
func register(limit time.Duration) Registered {
	return Registered{Entry: cleanup.Entry{Command: cleanup.Command{Text: "r", Args: []string{"r"}, Limit: limit}}}
}

// withWaiting returns a run in a state, with cleanup commands 1 and 2, and with command 3, which waits for the end of a
// process.
func withWaiting(state State, change ...func(*Run)) Run {
	command := cleanup.Command{Text: "c", Args: []string{"c"}, Limit: time.Second}
	waiting := cleanup.Entry{Command: command}
	waiting.Awaited = cleanup.Process{PID: 7, Start: 1}
	r := New(Policy{Survivors: StopSurvivors}, []cleanup.Command{command, command}, nil)
	r.Cleanup.Commands = r.Cleanup.Register(waiting)
	r.State = state
	for _, c := range change {
		c(&r)
	}
	return r
}

// last returns the last action.
func last(actions []Action) Action { return actions[len(actions)-1] }

func TestRegistered_untilCleaning(t *testing.T) {
	for state := Starting; state <= Done; state++ {
		r, actions := Next(withWaiting(state), register(time.Second))
		answer := last(actions).(Answer)
		added := r.Cleanup.Entries.Len() == 4
		if added != (state < Cleaning) || added != (answer.Refusal == "") || added && answer.ID != 4 {
			t.Errorf("%v: %+v, %d commands", state, answer, r.Cleanup.Entries.Len())
		}
	}
}

// A repeated request with the same key adds no command and gets the id of the first request, even when cleanup has
// begun.
func TestRegistered_sameKey(t *testing.T) {
	request := register(time.Second)
	request.Entry.Key = "k"
	r, _ := Next(withWaiting(Running), request)
	r.State, request.SameKeyID = Cleaning, 4
	again, actions := Next(r, request)
	if again.Cleanup.Entries.Len() != 4 || actions[0] != (Answer{ID: 4}) {
		t.Errorf("%+v of %d", actions, again.Cleanup.Entries.Len())
	}
	// A repeated request for a withdrawn command gets a new id, because a withdrawn command never runs. If recording a
	// command fails, the caller withdraws the command, and the client repeats the request.
	r.State = Running
	r, _ = Next(r, Withdrawn{ID: 4})
	if _, actions := Next(r, request); actions[0] != (Answer{ID: 5}) {
		t.Errorf("withdrawn: %+v", actions)
	}
}

func TestWithdrawn_pendingOnly(t *testing.T) {
	progress := func(p cleanup.Progress) func(*Run) {
		return entry(1, func(c *cleanup.Entry) { c.Progress = p })
	}
	onStop := entry(1, func(c *cleanup.Entry) { c.When = cleanup.AtStop })
	for name, c := range map[string]struct {
		from    Run
		id      int
		refusal string
	}{
		"pending":               {withWaiting(Running), 1, ""},
		"pending in Cleaning":   {withWaiting(Cleaning), 1, ""},
		"withdrawn":             {withWaiting(Running, progress(cleanup.Withdrawn)), 1, ""},
		"started":               {withWaiting(Cleaning, progress(cleanup.Claimed)), 1, "too late"},
		"ended":                 {withWaiting(Cleaning, progress(cleanup.Ended)), 1, "too late"},
		"unknown":               {withWaiting(Running), 4, "no command"},
		"0":                     {withWaiting(Running), 0, "no command"},
		"on-stop":               {withWaiting(Running, onStop), 1, "on-stop command"},
		"waiting for a process": {withWaiting(Running), 3, ""},
	} {
		r, actions := Next(c.from, Withdrawn{ID: c.id})
		answer := last(actions).(Answer)
		granted := answer.Refusal == ""
		e, _ := r.Cleanup.Get(c.id)
		if !strings.Contains(answer.Refusal, c.refusal) || granted != (c.refusal == "") ||
			granted != (e.Progress == cleanup.Withdrawn) {
			t.Errorf("%s: %+v, %+v", name, answer, e)
		}
	}
}

// When the awaited process has ended, the command starts once, and with StopSurvivors only in Running and Stopping. A
// command that waits for no process does not start.
func TestProcessExited_startsCommand(t *testing.T) {
	for state := Starting; state <= Done; state++ {
		r, actions := Next(withWaiting(state), ProcessExited{3})
		e, _ := r.Cleanup.Get(3)
		starts := state == Running || state == Stopping
		if starts != (e.Progress == cleanup.Claimed) || starts != (len(actions) == 2) ||
			starts && actions[1] != (StartCommand{3}) {
			t.Errorf("%v: %v, %+v", state, actions, e)
		}
		if again, actions := Next(r, ProcessExited{3}); len(actions) > 0 || again.State != r.State {
			t.Errorf("%v: the command is started again: %v", state, actions)
		}
	}
	if _, actions := Next(withWaiting(Running), ProcessExited{1}); len(actions) > 0 {
		t.Errorf("a command that waits for no process is started: %v", actions)
	}
}

// If a command is running when Cleaning begins, no other command starts before its end. Then the tree is killed, and
// the next command starts.
func TestProcessExited_commandRunsIntoCleaning(t *testing.T) {
	r := after(withWaiting(Running), ProcessExited{3}, CommandStarted{ID: 3, PID: 300}, TargetEnded{})
	r, actions := Next(r, TreeEmptied{})
	if r.State != Cleaning || len(r.Cleanup.Running(cleanup.AtExit)) != 1 {
		t.Fatalf("in %v: %v", r.State, actions)
	}
	if r, actions = Next(r, CommandEnded{ID: 3}); !r.Cleanup.Clearing || last(actions) != (KillTree{}) {
		t.Fatalf("after its end: %v", actions)
	}
	if _, actions = Next(r, TreeEmptied{}); last(actions) != (StartCommand{2}) {
		t.Fatalf("then: %v", actions)
	}
}

// When a cleanup command ends before Cleaning, its own processes are killed, but not the tree.
func TestProcessExited_commandEndsBeforeCleaning(t *testing.T) {
	r := after(withWaiting(Running), ProcessExited{3}, CommandStarted{ID: 3, PID: 300})
	r, actions := Next(r, CommandEnded{ID: 3})
	if r.Cleanup.Clearing || last(actions) != (KillCommand{3}) {
		t.Errorf("%v", actions)
	}
}

// delays changes a run: cleanup commands that could not be started before Cleaning are tried again in Cleaning.
func delays(r *Run) { r.Policy.UnstartedDelayed = true }

// If a cleanup command cannot be started before Cleaning for lack of resources, it becomes pending again, and Cleaning
// starts it. After a second failure it has ended. A command that failed for another reason, or in a ledger of an
// earlier version, is not tried again.
func TestProcessExited_commandIsDelayed(t *testing.T) {
	for name, c := range map[string]struct {
		from   Run
		events []Event // events after the end of the process that the command waits for
		after  bool    // Cleaning tries the command again
	}{
		"over its limit": {withWaiting(Running, delays), []Event{CommandTimer{3, LimitTimer}}, true},
		"a lack of resources": {withWaiting(Running, delays),
			[]Event{CommandFailed{ID: 3, Unstarted: true}}, true},
		"its program is missing":         {withWaiting(Running, delays), []Event{CommandFailed{ID: 3}}, false},
		"a ledger of an earlier version": {withWaiting(Running), []Event{CommandTimer{3, LimitTimer}}, false},
		"the start fails late": {withWaiting(Running, delays),
			[]Event{CommandStarted{ID: 3, PID: 300}, CommandFailed{ID: 3, Unstarted: true}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := after(c.from, append([]Event{ProcessExited{3}}, c.events...)...)
			e, _ := r.Cleanup.Get(3)
			want := cleanup.Entry{ID: 3, Command: e.Command, Registration: e.Registration, Delayed: true}
			if c.after != reflect.DeepEqual(e, want) || c.after == (e.Progress == cleanup.Ended) {
				t.Fatalf("the command is %+v", e)
			}
			if r.StoppingTime() > c.from.StoppingTime() == c.after {
				t.Errorf("the stop may take %v, before %v", r.StoppingTime(), c.from.StoppingTime())
			}
			if again, actions := Next(r, ProcessExited{3}); len(actions) > 0 || again.State != r.State {
				t.Errorf("the awaited process ends again: %v", actions)
			}
			r, actions := Next(after(r, TargetEnded{}), TreeEmptied{})
			first := StartCommand{2}
			if c.after {
				first = StartCommand{3}
			}
			if last(actions) != first {
				t.Fatalf("cleanup begins: %v", actions)
			}
			if !c.after {
				return
			}
			r = after(r, CommandTimer{3, LimitTimer})
			if e, _ := r.Cleanup.Get(3); e.Progress != cleanup.Ended || !e.Outcome.Unstarted {
				t.Errorf("after the second try the command is %+v", e)
			}
			if _, actions = Next(r, TreeEmptied{}); last(actions) != (StartCommand{2}) {
				t.Errorf("then: %v", actions)
			}
		})
	}
}

func TestRegistered_deadline(t *testing.T) {
	deadline := func(r *Run) {
		r.Policy.Deadline, r.Policy.ReservedTime, r.Policy.TimeBeforeSignal = 10*time.Second, 4*time.Second, time.Second
	}
	asksForNothing := func(r *Run) { r.Policy.ReservedTime = 0 }
	parallel := func(r *Run) { r.Policy.Order = cleanup.Parallel }
	bounded := func(r *Run) { r.Stop.DeadlineStarted = true }
	for name, c := range map[string]struct {
		from    Run
		limit   time.Duration
		left    time.Duration // until the end of the deadline timer
		refusal string        // part of the expected refusal; empty: the command is added
		moved   time.Duration // new time until the end of the deadline timer; 0: unchanged
	}{
		"it fits": {withWaiting(Running, deadline), 3 * time.Second, 0, "", 0},
		"it takes the time that the stop asked for": {withWaiting(Running, deadline), 4 * time.Second, 0,
			"deadline of 10s: with it the cleanup commands may take 7s, and 4s", 0},
		"it leaves nothing for the target": {withWaiting(Running, deadline, asksForNothing), 6 * time.Second, 0,
			"nothing is left", 0},
		"the longest limit": {withWaiting(Running, deadline), 1<<63 - 1, 0, "does not fit", 0},
		"the stop ends early": {withWaiting(Stopping, deadline, bounded), 2 * time.Second, 5 * time.Second,
			"", 3 * time.Second},
		"the stop would end in the past": {withWaiting(Stopping, deadline, bounded), 2 * time.Second, 2 * time.Second,
			"the stop has begun", 0},
		"parallel commands take no more time": {withWaiting(Stopping, deadline, bounded, parallel), time.Second, time.Second,
			"", 0},
		"the deadline is over": {withWaiting(Killing, deadline, bounded), time.Second, 0, "the stop has begun", 0},
	} {
		request := register(c.limit)
		request.Left = c.left
		_, actions := Next(c.from, request)
		answer := last(actions).(Answer)
		if !strings.Contains(answer.Refusal, c.refusal) || (answer.Refusal == "") != (c.refusal == "") {
			t.Errorf("%s: %q", name, answer.Refusal)
		}
		if moved := len(actions) == 2; moved != (c.moved != 0) || moved && actions[0] != start(DeadlineTimer, 0, c.moved) {
			t.Errorf("%s: %v", name, actions)
		}
	}
}

// The limit of a withdrawn or ended command does not count in cleaningTime. A withdrawal moves the end of the deadline
// timer by that limit.
func TestRun_cleaningTime(t *testing.T) {
	r := withWaiting(Stopping, func(r *Run) { r.Policy.Deadline, r.Stop.DeadlineStarted = 10*time.Second, true })
	left, actions := Next(r, Withdrawn{3, 2 * time.Second})
	if actions[0] != start(DeadlineTimer, 0, 3*time.Second) || left.cleaningTime() != 2*time.Second {
		t.Errorf("withdrawn: %v, %v", left.cleaningTime(), actions)
	}
	entry(3, func(c *cleanup.Entry) { c.Progress = cleanup.Ended })(&r)
	if r.cleaningTime() != 2*time.Second {
		t.Errorf("ended: %v", r.cleaningTime())
	}
}

func TestRegistered_limits(t *testing.T) {
	r := withWaiting(Running)
	r.Cleanup.Recorded = MaxRegistered
	if _, actions := Next(r, register(time.Second)); !strings.Contains(actions[0].(Answer).Refusal, "takes no more") {
		t.Errorf("%v", actions)
	}
	// A replay accepts a command beyond MaxRegistered, because another version may have written the ledger.
	e := register(time.Second)
	e.Replay = true
	with, actions := Next(r, e)
	if with.Cleanup.Entries.Len() != r.Cleanup.Entries.Len()+1 || actions[0].(Answer).Refusal != "" {
		t.Errorf("replayed: %v", actions)
	}
}
