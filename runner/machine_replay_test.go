package runner

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/tree"
)

// FuzzMachine handles arbitrary events and checks the guarantees of the machine. The machine returns to an earlier
// state only for a retry. It starts each on-stop command at most once. It starts each cleanup command once, and again
// only after a retry or a delay. Cleanup commands start in order, unless one was retried or delayed, or has waited for
// a process. The machine sends SIGKILL only when that is allowed. Every run ends. At arbitrary points a replay of the
// records gives the same run.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{0, 0})
	f.Add([]byte{7, 2, 1, 4, 2, 2, 6, 1, 8, 1})
	f.Add([]byte{13, 3, 0, 9, 3, 10, 4, 5, 6, 6, 8, 7, 9, 11, 12, 200, 44, 3})
	f.Add([]byte{0, 80, 0, 18, 2, 5, 32})        // the limit of an on-stop command leads to the first cleanup command
	f.Add([]byte{4, 1, 0, 49, 84, 73, 5, 6, 84}) // a command is delayed
	f.Add([]byte{2, 255, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2 || len(data) > 300 {
			return
		}
		w := world{t: t, taken: map[int]int{}, retried: map[int]int{}, commands: map[int]bool{}}
		w.run = newRun("id", arbitraryConfig(data))
		w.keep(firstRecord(w.run, process.Inherited{}))
		for _, b := range data[2:] {
			w.happen(b)
		}
		// Now let each event happen that the machine waits for.
		for range 10 * (w.run.Cleanup.Entries.Len() + 1) {
			if w.run.State == machine.Done {
				break
			}
			w.proceed()
		}
		if w.run.State != machine.Done {
			t.Fatalf("the run does not end: %+v", w.run)
		}
		w.checkCommands()
	})
}

// arbitraryConfig returns a configuration. The first two bytes of data select it.
func arbitraryConfig(data []byte) Config {
	config := Config{
		Command: []string{"target"}, Env: []string{"A=\xff\x00"}, Contain: tree.Auto,
		Policy: machine.Policy{
			Grace: time.Duration(data[0]%3) * time.Second, Order: cleanup.Orders()[int(data[0])%3],
			ForwardTo: machine.ForwardToGroup, Survivors: machine.SurvivorsValues()[int(data[1])/16%3],
			OnRepeat: machine.OnRepeatValues()[data[0]>>3&1*2], PTY: data[1]&8 != 0, UnstartedDelayed: data[0]&4 != 0,
			Rewrite: map[int]int{machine.SigTERM: int(data[0] >> 6)},
		},
	}
	if data[0]&16 != 0 {
		config.Drain, config.Timeout, config.Deadline = time.Second, time.Minute, time.Minute
	}
	if data[0]&32 != 0 {
		config.Schedule = []machine.Step{
			{Signal: sigINT, Wait: time.Second}, {Signal: -1, Wait: 0}, {Signal: 0, Wait: time.Second},
		}
	}
	for range data[1] >> 6 {
		config.OnStop = append(config.OnStop, cleanup.Command{Text: "s", Args: []string{"s"}, Limit: time.Second})
	}
	for range data[1] % 5 {
		config.OnExit = append(config.OnExit, cleanup.Command{Text: "c", Args: []string{"c"}, Limit: time.Second})
	}
	return config
}

// world simulates the environment of the machine.
type world struct {
	t         *testing.T
	run       Run
	graceOver bool // the tree may be killed
	ledger    []json.RawMessage
	taken     map[int]int  // by id, the number of starts of a command, without those of the retry timer
	retried   map[int]int  // by id, the number of retries and delays of a command
	order     []int        // ids of the cleanup commands that were started in turn, in the order of their starts
	fired     bool         // a command was started because the process that it waits for has ended
	commands  map[int]bool // contains the ids of the running commands
}

// checkCommands fails the test if a command was started too often or out of order.
func (w *world) checkCommands() {
	var order []int
	for e := range w.run.Cleanup.Entries.All() {
		if e.Progress == cleanup.Withdrawn {
			if w.taken[e.ID] > w.retried[e.ID] { // unless it was withdrawn after a retry or a delay
				w.t.Errorf("command %d was withdrawn, but started", e.ID)
			}
			continue
		}
		if e.When == cleanup.AtStop {
			if w.taken[e.ID] > 1 {
				w.t.Errorf("on-stop command %d was started %d times", e.ID, w.taken[e.ID])
			}
			continue
		}
		if w.taken[e.ID] != 1+w.retried[e.ID] {
			w.t.Errorf("command %d was started %d times and retried %d times", e.ID, w.taken[e.ID], w.retried[e.ID])
		}
		order = append(order, e.ID)
	}
	if w.run.Cleanup.Order == cleanup.LIFO {
		slices.Reverse(order)
	}
	ordered := len(w.retried) == 0 && !w.fired && w.run.Cleanup.Order != cleanup.Parallel
	if ordered && !slices.Equal(order, w.order) {
		w.t.Errorf("%s order was %v", w.run.Cleanup.Order, w.order)
	}
}

// happen handles an event that the byte b selects. Some of these events cannot happen in a real run.
func (w *world) happen(b byte) {
	id := int(b>>5) % 8 // 0 is no command
	ending := machine.Ending{Code: int(b) % 3, Signal: int(b>>3) % 2 * 9}
	switch b % 23 {
	case 0:
		w.handle(machine.TargetStarted{PID: int(b) + 1})
	case 1:
		w.handle(machine.TargetFailed{Status: 127})
	case 2:
		w.handle(machine.Signalled{Signal: 15, Meaning: forward.Stop})
	case 3:
		w.handle(machine.Signalled{Signal: int(b) % 65, Meaning: forward.Meaning(b>>4) % 5})
	case 4:
		w.handle(machine.TimeUp{Name: machine.GraceTimer})
	case 5:
		w.handle(machine.TargetEnded{Ending: ending, After: time.Duration(b)})
	case 6:
		w.handle(machine.TreeEmptied{})
	case 7:
		w.handle(machine.CommandStarted{ID: id, PID: int(b)})
	case 8:
		w.handle(machine.CommandEnded{ID: id, Ending: ending, Unseen: b&16 != 0})
	case 9:
		w.handle(machine.CommandFailed{ID: id, Err: "no", Transient: b&16 != 0, Unstarted: b&32 != 0})
	case 10:
		w.handle(machine.CommandTimer{ID: id, Name: machine.TimerName(b>>4) % 5})
		w.handle(machine.TimeUp{Name: machine.DrainTimer + machine.TimerName(b>>4)%3})
	case 11:
		w.replay()
	case 12:
		w.proceed()
	case 13:
		w.handle(machine.PeerEnded{})
	case 14:
		w.handle(machine.Recovered{After: time.Duration(b)})
	case 15:
		w.handle(machine.CommandLost{ID: id})
	case 16:
		w.handle(machine.Retried{})
	case 17, 18:
		c := cleanup.Entry{Command: cleanup.Command{Text: "r", Args: []string{"r"}, Limit: time.Second}}
		c.Name, c.Dir, c.Env, c.Key = "n\xff", "/d", []string{"B=\xfe"}, string('a'+rune(b>>5))
		if of := w.run.Cleanup; b&16 != 0 && of.Entries.Len() > 0 && of.Entries.At(of.Entries.Len()-1).Env != nil {
			c.EnvOf = of.Entries.Len()
			c.Env = of.Entries.At(c.EnvOf - 1).Env
		}
		c.Awaited.PID = int(b) % 2
		w.handle(machine.Registered{Entry: c, Left: time.Duration(b>>4) * time.Second, SameKeyID: int(b>>5) + 1})
	case 19:
		w.handle(machine.Withdrawn{ID: id, Left: time.Second})
	case 20:
		w.handle(machine.ProcessExited{ID: id})
	case 21:
		w.handle(machine.Relayed{})
	case 22:
		w.handle(machine.RetriedUnstarted{})
	}
}

// proceed handles the event that the machine waits for.
func (w *world) proceed() {
	switch w.run.State {
	case machine.Starting:
		w.handle(machine.TargetStarted{PID: 1})
	case machine.Running, machine.Stopping, machine.Killing:
		if running := w.run.Cleanup.Running(cleanup.AtStop); len(running) > 0 {
			w.handle(machine.CommandEnded{ID: running[0], Ending: machine.Ending{}})
			return
		}
		w.handle(machine.TargetEnded{Ending: machine.Ending{}, After: 0})
	case machine.Sweeping:
		w.handle(machine.TreeEmptied{})
	case machine.Cleaning:
		if w.run.Cleanup.Relaying {
			w.handle(machine.Relayed{})
			return
		}
		for e := range w.run.Cleanup.Entries.All() {
			if e.Progress == cleanup.Claimed {
				w.handle(machine.CommandEnded{ID: e.ID, Ending: machine.Ending{}})
				return
			}
		}
		w.handle(machine.TreeEmptied{})
	}
}

// snapshot is a run with copies of its entries.
type snapshot struct {
	run     Run
	entries []cleanup.Entry
}

func snapshotOf(r Run) (s snapshot) {
	for c := range r.Cleanup.Entries.All() {
		s.entries = append(s.entries, *c)
	}
	s.run = r
	s.run.Cleanup.Entries = cleanup.List{}
	return s
}

func (w *world) handle(e machine.Event) {
	before := w.run
	was := snapshotOf(before)
	core, actions := machine.Next(before.Run, e)
	after := before
	after.Run = core
	again := e == machine.Event(machine.Retried{}) || e == machine.Event(machine.RetriedUnstarted{})
	for c := range before.Cleanup.Entries.All() {
		if again && (c.Outcome.Unstarted || e == machine.Event(machine.Retried{}) && c.Outcome.Interrupted) {
			w.retried[c.ID]++
		}
	}
	if r, err := journal.Record(e, after.Changed(before.Run), false, now()); err != nil {
		w.t.Fatal(err)
	} else if r != nil {
		w.keep(r)
	}
	if !reflect.DeepEqual(snapshotOf(before), was) {
		w.t.Fatalf("%T made the machine change its input from %+v to %+v", e, was, before)
	}
	if after.State < before.State && !(again && after.State == machine.Cleaning) {
		w.t.Fatalf("back from %v to %v on %T", before.State, after.State, e)
	}
	signal, _ := e.(machine.Signalled)
	switch {
	case e == (machine.TimeUp{Name: machine.GraceTimer}) && before.Stop.Step == len(before.Policy.Steps()),
		e == (machine.TimeUp{Name: machine.DeadlineTimer}),
		signal.Meaning == forward.Stop && before.Stop.Count > 0 && before.Policy.OnRepeat == machine.RepeatKill:
		w.graceOver = true
	}
	if after.Cleanup.Clearing && len(after.Cleanup.Running(cleanup.AtExit)) > 0 {
		w.t.Fatalf("%T: the tree is killed while a command runs: %+v", e, after)
	}
	w.run = after
	for c := range after.Cleanup.Entries.All() {
		if c.Progress == cleanup.Ended { // also if graceful gave the command up
			delete(w.commands, c.ID)
		}
		if was, _ := before.Cleanup.Get(c.ID); c.Delayed && was.Progress == cleanup.Claimed && c.Progress == cleanup.Pending {
			delete(w.commands, c.ID)
			w.retried[c.ID]++
		}
	}
	for _, a := range actions {
		switch a := a.(type) {
		case machine.KillTree:
			if after.State < machine.Cleaning && !w.graceOver {
				w.t.Fatalf("SIGKILL before the grace was over, in %v on %T", before.State, e)
			}
			if after.State == machine.Cleaning && len(after.Cleanup.Running(cleanup.AtExit)) > 0 {
				w.t.Fatalf("SIGKILL to running commands: %v", w.commands)
			}
		case machine.StartCommand:
			w.start(a.ID, e)
		case machine.Answer:
			w.answered(a, e, before)
		}
	}
}

func (w *world) start(id int, why machine.Event) {
	c, _ := w.run.Cleanup.Get(id)
	if !w.run.MayStart(c.When) || w.run.Cleanup.Relaying {
		w.t.Fatalf("command %d in %v", id, w.run.State)
	}
	if timer, _ := why.(machine.CommandTimer); timer.ID == id { // the retry timer
		w.commands[id] = true
		return
	}
	w.taken[id]++
	w.commands[id] = true
	if _, fired := why.(machine.ProcessExited); fired {
		w.fired = true
		return
	}
	if c.When == cleanup.AtExit {
		w.order = append(w.order, id)
	}
	if running := w.run.Cleanup.Running(c.When); !w.fired && w.run.Cleanup.Order != cleanup.Parallel && len(running) > 1 {
		w.t.Fatalf("commands at the same time: %v", running)
	}
}

// answered checks that an answer matches the effect on the run.
func (w *world) answered(a machine.Answer, e machine.Event, before Run) {
	c, known := w.run.Cleanup.Get(a.ID)
	if _, ok := e.(machine.Withdrawn); ok {
		if (a.Refusal == "") != (known && c.Progress == cleanup.Withdrawn) {
			w.t.Fatalf("withdrawing %d in %v was answered with %q", a.ID, before.State, a.Refusal)
		}
		return
	}
	unchanged := w.run.Cleanup.Changes == before.Cleanup.Changes
	if reg := e.(machine.Registered); a.Refusal == "" && c.Key != reg.Entry.Key || a.Refusal != "" && !unchanged {
		w.t.Fatalf("registering in %v was answered with %+v: %+v", before.State, a, w.run)
	}
}

func (w *world) keep(r json.RawMessage) { w.ledger = append(w.ledger, r) }

// replay replaces the run by the result of a replay of its records, which must be the same run.
func (w *world) replay() {
	rec, err := replayRun(w.ledger)
	if err != nil {
		w.t.Fatal(err)
	}
	rec.run.Deadlines = w.run.Deadlines // they are not recorded
	if diff := cmp.Diff(w.run, rec.run, runOptions); diff != "" {
		w.t.Fatalf("the replayed run differs: %s", diff)
	}
	w.run = rec.run
}
