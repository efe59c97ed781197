package machine

import (
	"strings"
	"testing"
	"time"

	"graceful/cleanup"
)

func registering(limit time.Duration, change ...func(*cleanup.Entry)) Registered {
	e := cleanup.Entry{Command: cleanup.Command{Text: "r", Args: []string{"r"}, Limit: limit}}
	for _, c := range change {
		c(&e)
	}
	return Registered{Entry: e}
}

// at3 is a run of two cleanup commands and one that waits for a process.
func at3(state State, change ...func(*Run)) Run {
	command := cleanup.Command{Text: "c", Args: []string{"c"}, Limit: time.Second}
	r := New(Policy{Survivors: StopSurvivors}, []cleanup.Command{command, command}, nil)
	r.Cleanup.Stack = r.Cleanup.Register(cleanup.Entry{Command: command, Registration: cleanup.Registration{Exits: cleanup.Process{PID: 7, Start: 1}}})
	r.State = state
	for _, c := range change {
		c(&r)
	}
	return r
}

func TestACommandJoinsUntilCleaningBegins(t *testing.T) {
	for state := Starting; state <= Done; state++ {
		r, todo := Next(at3(state), registering(time.Second))
		got := todo[len(todo)-1].(Answer)
		if taken := len(r.Cleanup.Entries) == 4; taken != (state < Cleaning) || taken != (got.Refusal == "") || taken && got.ID != 4 {
			t.Errorf("%v: %+v, %d commands", state, got, len(r.Cleanup.Entries))
		}
	}
}

func TestWhoAsksAgainHasTheSameId(t *testing.T) {
	key := func(e *cleanup.Entry) { e.Key = "k" }
	r, _ := Next(at3(Running), registering(time.Second, key))
	r.State = Cleaning // whatever has happened meanwhile
	again, todo := Next(r, registering(time.Second, key))
	if len(again.Cleanup.Entries) != 4 || todo[0] != (Answer{ID: 4}) {
		t.Errorf("%+v of %d", todo, len(again.Cleanup.Entries))
	}
	// But not that of one that will not run: it may have been taken back since nobody could write it down.
	r.State = Running
	r, _ = Next(r, Withdrawn{ID: 4})
	if _, todo := Next(r, registering(time.Second, key)); todo[0] != (Answer{ID: 5}) {
		t.Errorf("withdrawn: %+v", todo)
	}
}

func TestACommandIsWithdrawnOrItIsTooLate(t *testing.T) {
	progress := func(p cleanup.Progress) func(*Run) { return entry(1, func(c *cleanup.Entry) { c.Progress = p }) }
	for name, c := range map[string]struct {
		from    Run
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
		r, todo := Next(c.from, Withdrawn{ID: c.id})
		got := todo[len(todo)-1].(Answer)
		e, _ := r.Cleanup.Get(c.id)
		if !strings.Contains(got.Refusal, c.refusal) || (got.Refusal == "") != (c.refusal == "") || (got.Refusal == "") != (e.Progress == cleanup.Withdrawn) {
			t.Errorf("%s: %+v, %+v", name, got, e)
		}
	}
}

func TestAProcessThatExitsStartsItsCommandOnceWhileTheTargetGoesOn(t *testing.T) {
	for state := Starting; state <= Done; state++ {
		r, todo := Next(at3(state), Exited{3})
		e, _ := r.Cleanup.Get(3)
		live := state == Running || state == Stopping
		if live != (e.Progress == cleanup.Claimed) || live != (len(todo) == 2) || live && todo[1] != (StartCommand{3}) {
			t.Errorf("%v: %v, %+v", state, todo, e)
		}
		if again, todo := Next(r, Exited{3}); len(todo) > 0 || again.State != r.State {
			t.Errorf("%v: it is started again: %v", state, todo)
		}
	}
	if _, todo := Next(at3(Running), Exited{1}); len(todo) > 0 {
		t.Errorf("one that waits for nobody is started: %v", todo)
	}
}

// What runs already when cleaning begins is waited for before the others, and not killed with the tree.
func TestACommandThatRunsBeforeItsTurnKeepsTheOrder(t *testing.T) {
	r := at3(Running)
	tell := func(e Event) (todo []Action) { r, todo = Next(r, e); return todo }
	tell(Exited{3})
	tell(CommandStarted{ID: 3, PID: 300})
	tell(TargetEnded{})
	if todo := tell(TreeEmptied{}); r.State != Cleaning || len(r.Cleanup.Running(cleanup.AtExit)) != 1 {
		t.Fatalf("in %v: %v", r.State, todo)
	}
	if todo := tell(CommandEnded{ID: 3}); !r.Cleanup.Clearing || todo[len(todo)-1] != (KillTree{}) {
		t.Fatalf("its end: %v", todo)
	}
	if todo := tell(TreeEmptied{}); todo[len(todo)-1] != (StartCommand{2}) {
		t.Fatalf("then: %v", todo)
	}
}

func TestOneThatEndsBeforeCleaningTakesNobodyElseWithIt(t *testing.T) {
	r, _ := Next(at3(Running), Exited{3})
	r, _ = Next(r, CommandStarted{ID: 3, PID: 300})
	r, todo := Next(r, CommandEnded{ID: 3})
	if r.Cleanup.Clearing || todo[len(todo)-1] != (KillCommand{3}) {
		t.Errorf("%v", todo)
	}
}

func TestUnderADeadlineACommandMustFit(t *testing.T) {
	deadline := func(r *Run) {
		r.Policy.Deadline, r.Policy.Asked, r.Policy.Unsignalled = 10*time.Second, 4*time.Second, time.Second
	}
	bounded := func(r *Run) { r.Stop.Bounded = true }
	timer := Timer{Name: DeadlineTimer}
	for name, c := range map[string]struct {
		from    Run
		limit   time.Duration
		left    time.Duration
		refusal string
		Changed time.Duration // to where the end of the stop is moved; 0: it is not
	}{
		"it does":                          {at3(Running, deadline), 3 * time.Second, 0, "", 0},
		"it takes what was asked for":      {at3(Running, deadline), 4 * time.Second, 0, "deadline of 10s: with it the cleanup commands may take 7s, and 4s", 0},
		"nothing is left for the target":   {at3(Running, deadline, func(r *Run) { r.Policy.Asked = 0 }), 6 * time.Second, 0, "nothing is left", 0},
		"for ever":                         {at3(Running, deadline), 1<<63 - 1, 0, "does not fit", 0},
		"the stop ends earlier":            {at3(Stopping, deadline, bounded), 2 * time.Second, 5 * time.Second, "", 3 * time.Second},
		"but not in the past":              {at3(Stopping, deadline, bounded), 2 * time.Second, 2 * time.Second, "the stop has begun", 0},
		"at once, all take what one takes": {at3(Stopping, deadline, bounded, func(r *Run) { r.Policy.Order = cleanup.Parallel }), time.Second, time.Second, "", 0},
		"when everything is being killed":  {at3(Killing, deadline, bounded), time.Second, 0, "the stop has begun", 0},
	} {
		e := registering(c.limit)
		e.Left = c.left
		_, todo := Next(c.from, e)
		got := todo[len(todo)-1].(Answer)
		if !strings.Contains(got.Refusal, c.refusal) || (got.Refusal == "") != (c.refusal == "") {
			t.Errorf("%s: %q", name, got.Refusal)
		}
		if moved := len(todo) == 2; moved != (c.Changed != 0) || moved && todo[0] != (startTimer{timer, c.Changed}) {
			t.Errorf("%s: %v", name, todo)
		}
	}
	r := at3(Stopping, deadline, bounded)
	if r, todo := Next(r, Withdrawn{3, 2 * time.Second}); todo[0] != (startTimer{timer, 3 * time.Second}) || r.cleaningTime() != 2*time.Second {
		t.Errorf("withdrawn, its time is not given back: %v", todo)
	}
	r.Cleanup.Stack = r.Cleanup.Update(3, func(c *cleanup.Entry) { c.Progress = cleanup.Ended })
	if r.cleaningTime() != 2*time.Second {
		t.Errorf("what has ended takes no more time, but counts: %v", r.cleaningTime())
	}
}

func TestARunTakesSoManyCommandsAndNoMore(t *testing.T) {
	r := at3(Running)
	r.Cleanup.Recorded = MaxRegistered
	if _, todo := Next(r, registering(time.Second)); !strings.Contains(todo[0].(Answer).Refusal, "takes no more") {
		t.Errorf("%v", todo)
	}
}
