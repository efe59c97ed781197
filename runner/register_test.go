package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner/tree"

	"github.com/google/go-cmp/cmp"
)

func registering(limit time.Duration, change ...func(*cleanup.Entry)) registered {
	e := cleanup.Entry{Command: cleanup.Command{Text: "r", Args: []string{"r"}, Limit: limit}}
	for _, c := range change {
		c(&e)
	}
	return registered{entry: e}
}

// at3 is a run of two cleanup commands and one that waits for a process.
func at3(state State, change ...func(*Run)) Run {
	command := cleanup.Command{Text: "c", Args: []string{"c"}, Limit: time.Second}
	r := newRun("id", Config{Command: []string{"t"}, OnExit: []cleanup.Command{command, command}, OnStop: nil, Survivors: StopSurvivors})
	r.Cleanup = r.Cleanup.Register(cleanup.Entry{Command: command, Registration: cleanup.Registration{Exits: cleanup.Process{PID: 7, Start: 1}}})
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
	if todo := tell(commandEnded{id: 3}); !r.Clearing || todo[len(todo)-1] != (killTree{}) {
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
	if r.Clearing || todo[len(todo)-1] != (killCommand{3}) {
		t.Errorf("%v", todo)
	}
}

func TestUnderADeadlineACommandMustFit(t *testing.T) {
	deadline := func(r *Run) {
		r.Config.Deadline, r.Config.Asked, r.Config.Unsignalled = 10*time.Second, 4*time.Second, time.Second
	}
	bounded := func(r *Run) { r.Bounded = true }
	timer := timer{Name: deadlineTimer}
	for name, c := range map[string]struct {
		from    Run
		limit   time.Duration
		left    time.Duration
		refusal string
		moved   time.Duration // to where the end of the stop is moved; 0: it is not
	}{
		"it does":                          {at3(Running, deadline), 3 * time.Second, 0, "", 0},
		"it takes what was asked for":      {at3(Running, deadline), 4 * time.Second, 0, "deadline of 10s: with it the cleanup commands may take 7s, and 4s", 0},
		"nothing is left for the target":   {at3(Running, deadline, func(r *Run) { r.Config.Asked = 0 }), 6 * time.Second, 0, "nothing is left", 0},
		"for ever":                         {at3(Running, deadline), 1<<63 - 1, 0, "does not fit", 0},
		"the stop ends earlier":            {at3(Stopping, deadline, bounded), 2 * time.Second, 5 * time.Second, "", 3 * time.Second},
		"but not in the past":              {at3(Stopping, deadline, bounded), 2 * time.Second, 2 * time.Second, "the stop has begun", 0},
		"at once, all take what one takes": {at3(Stopping, deadline, bounded, func(r *Run) { r.Config.Order = cleanup.Parallel }), time.Second, time.Second, "", 0},
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
	r.Cleanup = r.Cleanup.Update(3, func(c *cleanup.Entry) { c.Progress = cleanup.Ended })
	if r.CleaningTime() != 2*time.Second {
		t.Errorf("what has ended takes no more time, but counts: %v", r.CleaningTime())
	}
}

func TestARunTakesSoManyCommandsAndNoMore(t *testing.T) {
	r := at3(Running)
	r.Recorded = maxRegistered
	if _, todo := next(r, registering(time.Second)); !strings.Contains(todo[0].(answer).refusal, "takes no more") {
		t.Errorf("%v", todo)
	}
}

// A descriptor tells of an end at once; without one we look. Who has got the pid since makes no difference.
func TestTheEndOfAProcessIsToldOrLookedFor(t *testing.T) {
	for _, c := range []struct {
		told  bool
		after []tree.Process
	}{{true, nil}, {false, nil}, {false, []tree.Process{child(7, 2)}}} {
		synctest.Test(t, func(t *testing.T) {
			s, exits := newFakeSystem(), make(chan tree.Identity)
			s.pidfds, s.others = c.told, []tree.Process{child(7, 1)}
			s.at(5*time.Second+time.Millisecond, func() { s.others = c.after })
			if c.told {
				time.AfterFunc(5*time.Second+time.Millisecond, func() { exits <- tree.Identity{PID: 7, Start: 1} })
			}
			s.at(time.Minute, func() { s.end(Ending{}, targetPID) })
			r := at3(Starting, entry(3, func(c *cleanup.Entry) { c.Command.Text = "1s" }))
			l := loop{run: r, sys: s, log: slog.New(slog.DiscardHandler), signals: s.signals, children: s.nudge, exits: exits}
			l.await(l.command(3))
			l.do()
			began := slices.DeleteFunc(s.did, func(did string) bool { return !strings.HasSuffix(did, "start 1s") })
			if want := map[bool]string{true: "5.001s start 1s", false: "5.05s start 1s"}[c.told]; len(began) != 1 || began[0] != want {
				t.Errorf("%+v: %q, want %q", c, began, want)
			}
		})
	}
}

// failing is a ledger that can be written to, or not: then it keeps what it was given and writes it later, unless it is full.
type failing struct {
	memory
	err     error
	reserve error
	asked   int64 // how much was to be reserved
}

func (f *failing) Reserve(space int64) error {
	f.asked = space
	return f.reserve
}

func (f *failing) Append(r any) error {
	if !errors.Is(f.err, ledger.ErrFull) {
		_ = f.memory.Append(r)
	}
	return f.err
}

func TestWhatCannotBeRecordedIsNotRegistered(t *testing.T) {
	for name, err := range map[string]error{"no space": errors.New("none"), "full": fmt.Errorf("x: %w", ledger.ErrFull)} {
		t.Run(name, func(t *testing.T) {
			s, book := newFakeSystem(), &failing{}
			s.others = []tree.Process{child(7, 1)}
			first := newRun("id", Config{Command: []string{"t"}, Contain: tree.Auto, Order: cleanup.LIFO, ForwardTo: ForwardToGroup, Survivors: StopSurvivors,
				OnExit: []cleanup.Command{{Text: "c", Args: []string{"c"}, Limit: time.Second}, {Text: "d", Args: []string{"d"}, Limit: time.Second}}})
			_ = book.Append(firstRecord(first, inherited{}))
			l := loop{run: first, sys: s, log: slog.New(slog.NewTextHandler(io.Discard, nil)), ledger: book}
			l.handle(targetStarted{pid: targetPID})
			ask := func(exits int) answer {
				l.register(registry.Call{Request: registry.Request{Command: registry.Texts([]string{"r"}), Env: registry.Texts([]string{"A=1"}), WhenExits: exits, Key: "k"}})
				return l.said
			}
			want := func(ids ...int) {
				t.Helper()
				var got []int
				for _, c := range *l.list() {
					got = append(got, c.ID)
				}
				if !slices.Equal(got, ids) {
					t.Errorf("there are %v, want %v", got, ids)
				}
			}
			book.err = err
			if got := ask(7); got.refusal == "" || len(l.awaited)+len(l.unwatched) > 0 {
				t.Errorf("registered: %+v, %v", got, l.awaited)
			}
			want(1, 2)
			l.handle(withdrawn{id: 1})
			full := errors.Is(err, ledger.ErrFull)
			if kept := !strings.Contains(l.said.refusal, "should graceful be killed"); l.said.refusal == "" || kept != full {
				t.Errorf("withdrawn: %+v", l.said)
			}
			left := map[bool][]int{true: {1, 2}, false: {2}}[full] // what is not written is as if it had never been
			want(left...)
			book.err = nil
			got := ask(0)
			if got.refusal != "" || got.id != map[bool]int{true: 3, false: 4}[full] {
				t.Errorf("afterwards: %+v", got)
			}
			want(append(left, got.id)...)
			if c := l.command(got.id); c.EnvOf != 0 || len(c.Env) != 1 {
				t.Errorf("its environment is in no record: %+v", c)
			}
			// Who reads that goes on with the same run.
			var lines []json.RawMessage
			for _, r := range book.records {
				text, err := json.Marshal(r)
				if err != nil {
					t.Fatal(err)
				}
				lines = append(lines, text)
			}
			m, err := remember(lines)
			if diff := cmp.Diff(l.run, m.run, sameRun); err != nil || diff != "" {
				t.Errorf("remembered otherwise: %v %s", err, diff)
			}
		})
	}
}

// A command for whose events there is no space is refused, and it is as if it had not been asked for.
func TestACommandWithoutSpaceForItsEventsIsNotRegistered(t *testing.T) {
	book := &failing{reserve: errors.New("no space")}
	l := loop{run: at3(Running), sys: newFakeSystem(), log: slog.New(slog.DiscardHandler), ledger: book}
	ask := func() answer {
		r := registry.Request{Command: registry.Texts([]string{"r"}), Env: registry.Texts([]string{"A=1"}), Key: "k"}
		l.register(registry.Call{Request: r})
		return l.said
	}
	was := l.run
	if got := ask(); got.refusal != "no space" || len(book.records) > 0 || !cmp.Equal(was, l.run, sameRun) {
		t.Errorf("%+v, recorded %v, %+v", got, book.records, l.run)
	}
	book.reserve = nil
	if got := ask(); got != (answer{id: 4}) || len(book.records) != 1 || l.command(4).EnvOf != 0 {
		t.Errorf("afterwards: %+v, recorded %v", got, book.records)
	}
	// For what has not ended, the new one included.
	if want := int64(sizeOf(l.command(4)) + perRun + perStep + 4*perCommand); book.asked != want {
		t.Errorf("%d bytes were to be reserved, want %d", book.asked, want)
	}
	l.handle(withdrawn{id: 1})
	l.register(registry.Call{Request: registry.Request{Command: registry.Texts([]string{"r"})}})
	if want := int64(sizeOf(l.command(5)) + perRun + perStep + 4*perCommand); book.asked != want {
		t.Errorf("%d bytes were to be reserved, want %d", book.asked, want)
	}
	book.asked = 0
	if got := ask(); got != (answer{id: 4}) || book.asked != 0 {
		t.Errorf("asked again: %+v, %d bytes", got, book.asked)
	}
}

// Who goes on with a run takes what its ledger has, also where the one that wrote it took more than we do.
func TestWhatIsRecordedIsRegistered(t *testing.T) {
	r := at3(Running)
	r.Recorded = maxRegistered
	e, err := recordsOf(t, registering(time.Second))[0].event(r)
	if err != nil {
		t.Fatal(err)
	}
	if r, todo := next(r, e); len(r.Cleanup.Entries) != 4 || todo[0] != (answer{id: 4}) {
		t.Errorf("%+v, %d commands", todo, len(r.Cleanup.Entries))
	}
}

// None is not the same as that of the run.
func TestAnEnvironmentThatIsEmptyIsWrittenDown(t *testing.T) {
	for _, env := range [][]string{nil, {}, {"A=1"}} {
		r, _ := recordOf(registering(time.Second, func(c *cleanup.Entry) { c.Env = env }), true)
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var again record
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		e, err := again.event(at3(Running))
		if err != nil {
			t.Fatal(err)
		}
		if got := e.(registered).entry.Env; (got == nil) != (env == nil) || !slices.Equal(got, env) {
			t.Errorf("%#v became %#v", env, got)
		}
	}
}
