package runner

import (
	"strings"
	"testing"
	"time"

	"graceful/cleanup"
)

func registering(limit time.Duration, change ...func(*cleanup.Entry)) registered {
	e := cleanup.Entry{Command: cleanup.Command{Text: "r", Args: []string{"r"}, Limit: limit}}
	for _, c := range change {
		c(&e)
	}
	return registered{entry: e}
}

// at3 is a run of two cleanup commands and one that waits for a process.
func at3(state State, change ...func(*coreRun)) coreRun {
	command := cleanup.Command{Text: "c", Args: []string{"c"}, Limit: time.Second}
	r := newCore(Policy{Survivors: StopSurvivors}, []cleanup.Command{command, command}, nil)
	r.Cleanup.Stack = r.Cleanup.Register(cleanup.Entry{Command: command, Registration: cleanup.Registration{Exits: cleanup.Process{PID: 7, Start: 1}}})
	r.State = state
	for _, c := range change {
		c(&r)
	}
	return r
}

func TestACommandJoinsUntilCleaningBegins(t *testing.T) {
	for state := Starting; state <= Done; state++ {
		r, todo := next(at3(state), registering(time.Second))
		got := todo[len(todo)-1].(answer)
		if taken := len(r.Cleanup.Entries) == 4; taken != (state < Cleaning) || taken != (got.refusal == "") || taken && got.id != 4 {
			t.Errorf("%v: %+v, %d commands", state, got, len(r.Cleanup.Entries))
		}
	}
}

func TestWhoAsksAgainHasTheSameId(t *testing.T) {
	key := func(e *cleanup.Entry) { e.Key = "k" }
	r, _ := next(at3(Running), registering(time.Second, key))
	r.State = Cleaning // whatever has happened meanwhile
	again, todo := next(r, registering(time.Second, key))
	if len(again.Cleanup.Entries) != 4 || todo[0] != (answer{id: 4}) {
		t.Errorf("%+v of %d", todo, len(again.Cleanup.Entries))
	}
	// But not that of one that will not run: it may have been taken back since nobody could write it down.
	r.State = Running
	r, _ = next(r, withdrawn{id: 4})
	if _, todo := next(r, registering(time.Second, key)); todo[0] != (answer{id: 5}) {
		t.Errorf("withdrawn: %+v", todo)
	}
}

func TestACommandIsWithdrawnOrItIsTooLate(t *testing.T) {
	progress := func(p cleanup.Progress) func(*coreRun) { return entry(1, func(c *cleanup.Entry) { c.Progress = p }) }
	for name, c := range map[string]struct {
		from    coreRun
		id      int
		refusal string
	}{
		"one that waits for its turn":         {at3(Running), 1, ""},
		"also when others run already":        {at3(Cleaning), 1, ""},
		"one that is withdrawn already":       {at3(Running, progress(cleanup.Withdrawn)), 1, ""},
		"one that was started":                {at3(Cleaning, progress(cleanup.Claimed)), 1, "too late"},
		"one that has ended":                  {at3(Cleaning, progress(cleanup.Ended)), 1, "too late"},
		"one that there is not":               {at3(Running), 4, "no command"},
		"none":                                {at3(Running), 0, "no command"},
		"one for the beginning of a stop":     {at3(Running, entry(1, func(c *cleanup.Entry) { c.When = cleanup.AtStop })), 1, "beginning of a stop"},
		"one that waits for somebody to exit": {at3(Running), 3, ""},
	} {
		r, todo := next(c.from, withdrawn{id: c.id})
		got := todo[len(todo)-1].(answer)
		e, _ := r.Cleanup.Get(c.id)
		if !strings.Contains(got.refusal, c.refusal) || (got.refusal == "") != (c.refusal == "") || (got.refusal == "") != (e.Progress == cleanup.Withdrawn) {
			t.Errorf("%s: %+v, %+v", name, got, e)
		}
	}
}

func TestAProcessThatExitsStartsItsCommandOnceWhileTheTargetGoesOn(t *testing.T) {
	for state := Starting; state <= Done; state++ {
		r, todo := next(at3(state), exited{3})
		e, _ := r.Cleanup.Get(3)
		live := state == Running || state == Stopping
		if live != (e.Progress == cleanup.Claimed) || live != (len(todo) == 2) || live && todo[1] != (startCommand{3}) {
			t.Errorf("%v: %v, %+v", state, todo, e)
		}
		if again, todo := next(r, exited{3}); len(todo) > 0 || again.State != r.State {
			t.Errorf("%v: it is started again: %v", state, todo)
		}
	}
	if _, todo := next(at3(Running), exited{1}); len(todo) > 0 {
		t.Errorf("one that waits for nobody is started: %v", todo)
	}
}

// What runs already when cleaning begins is waited for before the others, and not killed with the tree.
func TestACommandThatRunsBeforeItsTurnKeepsTheOrder(t *testing.T) {
	r := at3(Running)
	tell := func(e event) (todo []action) { r, todo = next(r, e); return todo }
	tell(exited{3})
	tell(commandStarted{id: 3, pid: 300})
	tell(targetEnded{})
	if todo := tell(treeEmptied{}); r.State != Cleaning || len(r.Cleanup.Running(cleanup.AtExit)) != 1 {
		t.Fatalf("in %v: %v", r.State, todo)
	}
	if todo := tell(commandEnded{id: 3}); !r.Cleanup.Clearing || todo[len(todo)-1] != (killTree{}) {
		t.Fatalf("its end: %v", todo)
	}
	if todo := tell(treeEmptied{}); todo[len(todo)-1] != (startCommand{2}) {
		t.Fatalf("then: %v", todo)
	}
}

func TestOneThatEndsBeforeCleaningTakesNobodyElseWithIt(t *testing.T) {
	r, _ := next(at3(Running), exited{3})
	r, _ = next(r, commandStarted{id: 3, pid: 300})
	r, todo := next(r, commandEnded{id: 3})
	if r.Cleanup.Clearing || todo[len(todo)-1] != (killCommand{3}) {
		t.Errorf("%v", todo)
	}
}

func TestUnderADeadlineACommandMustFit(t *testing.T) {
	deadline := func(r *coreRun) {
		r.Policy.Deadline, r.Policy.Asked, r.Policy.Unsignalled = 10*time.Second, 4*time.Second, time.Second
	}
	bounded := func(r *coreRun) { r.Stop.Bounded = true }
	timer := timer{Name: deadlineTimer}
	for name, c := range map[string]struct {
		from    coreRun
		limit   time.Duration
		left    time.Duration
		refusal string
		moved   time.Duration // to where the end of the stop is moved; 0: it is not
	}{
		"it does":                          {at3(Running, deadline), 3 * time.Second, 0, "", 0},
		"it takes what was asked for":      {at3(Running, deadline), 4 * time.Second, 0, "deadline of 10s: with it the cleanup commands may take 7s, and 4s", 0},
		"nothing is left for the target":   {at3(Running, deadline, func(r *coreRun) { r.Policy.Asked = 0 }), 6 * time.Second, 0, "nothing is left", 0},
		"for ever":                         {at3(Running, deadline), 1<<63 - 1, 0, "does not fit", 0},
		"the stop ends earlier":            {at3(Stopping, deadline, bounded), 2 * time.Second, 5 * time.Second, "", 3 * time.Second},
		"but not in the past":              {at3(Stopping, deadline, bounded), 2 * time.Second, 2 * time.Second, "the stop has begun", 0},
		"at once, all take what one takes": {at3(Stopping, deadline, bounded, func(r *coreRun) { r.Policy.Order = cleanup.Parallel }), time.Second, time.Second, "", 0},
		"when everything is being killed":  {at3(Killing, deadline, bounded), time.Second, 0, "the stop has begun", 0},
	} {
		e := registering(c.limit)
		e.left = c.left
		_, todo := next(c.from, e)
		got := todo[len(todo)-1].(answer)
		if !strings.Contains(got.refusal, c.refusal) || (got.refusal == "") != (c.refusal == "") {
			t.Errorf("%s: %q", name, got.refusal)
		}
		if moved := len(todo) == 2; moved != (c.moved != 0) || moved && todo[0] != (startTimer{timer, c.moved}) {
			t.Errorf("%s: %v", name, todo)
		}
	}
	r := at3(Stopping, deadline, bounded)
	if r, todo := next(r, withdrawn{3, 2 * time.Second}); todo[0] != (startTimer{timer, 3 * time.Second}) || r.CleaningTime() != 2*time.Second {
		t.Errorf("withdrawn, its time is not given back: %v", todo)
	}
	r.Cleanup.Stack = r.Cleanup.Update(3, func(c *cleanup.Entry) { c.Progress = cleanup.Ended })
	if r.CleaningTime() != 2*time.Second {
		t.Errorf("what has ended takes no more time, but counts: %v", r.CleaningTime())
	}
}

func TestARunTakesSoManyCommandsAndNoMore(t *testing.T) {
	r := at3(Running)
	r.Cleanup.Recorded = maxRegistered
	if _, todo := next(r, registering(time.Second)); !strings.Contains(todo[0].(answer).refusal, "takes no more") {
		t.Errorf("%v", todo)
	}
}
