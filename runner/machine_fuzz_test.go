package runner

import (
	"encoding/json"
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

// FuzzMachine lets bytes decide what happens in a small world, and holds the machine to what is promised: it never
// goes back; every command is taken once, in order; SIGKILL comes when it may; it always ends; and
// all that it knows can be written down and read again at any moment.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{0, 0})
	f.Add([]byte{7, 2, 1, 4, 2, 2, 6, 1, 8, 1})
	f.Add([]byte{13, 3, 0, 9, 3, 10, 4, 5, 6, 6, 8, 7, 9, 11, 12, 200, 44, 3})
	f.Add([]byte{2, 255, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2 || len(data) > 300 {
			return
		}
		w := world{t: t, taken: map[int]int{}, retried: map[int]int{}, commands: map[int]bool{}}
		config := Config{
			Grace: time.Duration(data[0]%3) * time.Second, Command: []string{"target"}, Env: []string{"A=\xff\x00"},
			Contain: tree.Auto, Order: cleanup.Orders()[int(data[0])%3], ForwardTo: ForwardToGroup, Survivors: AllSurvivors()[int(data[1])/16%3],
			KillOnRepeat: data[0]&8 != 0, PTY: data[1]&8 != 0, Rewrite: map[int]int{sigTERM: int(data[0] >> 6)},
		}
		if data[0]&16 != 0 {
			config.Drain, config.Timeout, config.Deadline = time.Second, time.Minute, time.Minute
		}
		if data[0]&32 != 0 {
			config.Schedule = []Step{{sigINT, time.Second}, {-1, 0}, {0, time.Second}}
		}
		for range data[1] >> 6 {
			config.OnStop = append(config.OnStop, cleanup.Command{Text: "s", Args: []string{"s"}, Limit: time.Second})
		}
		for range data[1] % 5 {
			config.OnExit = append(config.OnExit, cleanup.Command{Text: "c", Args: []string{"c"}, Limit: time.Second})
		}
		w.run = newRun("id", config)
		w.keep(firstRecord(w.run, inherited{}))
		for _, b := range data[2:] {
			w.happen(b)
		}
		// From here on the world does what it is asked.
		for range 10 * (len(w.run.Cleanup.Entries) + 1) {
			if w.run.State == Done {
				break
			}
			w.goOn()
		}
		if w.run.State != Done {
			t.Fatalf("it does not end: %+v", w.run)
		}
		var order []int
		for _, e := range w.run.Cleanup.Entries {
			if e.Progress == cleanup.Withdrawn {
				if w.taken[e.ID] > w.retried[e.ID] { // but for a first life that was lost
					t.Errorf("command %d was withdrawn, and taken all the same", e.ID)
				}
				continue
			}
			if e.When == cleanup.AtStop {
				if w.taken[e.ID] > 1 {
					t.Errorf("on-stop command %d was taken %d times", e.ID, w.taken[e.ID])
				}
				continue
			}
			if w.taken[e.ID] != 1+w.retried[e.ID] {
				t.Errorf("command %d was taken %d times, and was to be retried %d times", e.ID, w.taken[e.ID], w.retried[e.ID])
			}
			order = append(order, e.ID)
		}
		if w.run.Cleanup.Order == cleanup.LIFO {
			slices.Reverse(order)
		}
		if len(w.retried) == 0 && !w.fired && w.run.Cleanup.Order != cleanup.Parallel && !slices.Equal(order, w.order) {
			t.Errorf("%s order was %v", w.run.Cleanup.Order, w.order)
		}
	})
}

// world is what surrounds the machine, as far as the machine can tell.
type world struct {
	t         *testing.T
	run       Run
	graceOver bool
	ledger    []json.RawMessage
	taken     map[int]int  // how often each command was started for the first time
	retried   map[int]int  // how often it was lost and then wanted again
	order     []int        // in which they were
	fired     bool         // one of them out of its turn
	commands  map[int]bool // those that run
}

// happen lets one thing happen that may happen in the world, or that should not.
func (w *world) happen(b byte) {
	id := int(b>>5) % 8 // 0 is nobody
	ending := Ending{Code: int(b) % 3, Signal: int(b>>3) % 2 * 9}
	switch b % 22 {
	case 0:
		w.tell(targetStarted{pid: int(b) + 1})
	case 1:
		w.tell(targetFailed{status: 127})
	case 2:
		w.tell(signalled{15, forward.Stop})
	case 3:
		w.tell(signalled{int(b) % 65, forward.Meaning(b>>4) % 5})
	case 4:
		w.tell(timeUp{graceTimer})
	case 5:
		w.tell(targetEnded{ending: ending, after: time.Duration(b)})
	case 6:
		w.tell(treeEmptied{})
	case 7:
		w.tell(commandStarted{id: id, pid: int(b)})
	case 8:
		w.tell(commandEnded{id, ending, b&16 != 0})
	case 9:
		w.tell(commandFailed{id, "no", b&16 != 0})
	case 10:
		w.tell(commandTimer{id, timerName(b>>4) % 5})
		w.tell(timeUp{drainTimer + timerName(b>>4)%3})
	case 11:
		w.writeDown()
	case 12:
		w.goOn()
	case 13:
		w.tell(orphaned{})
	case 14:
		w.tell(recovered{time.Duration(b)})
	case 15:
		w.tell(commandLost{id})
	case 16:
		w.tell(retried{})
	case 17, 18:
		c := cleanup.Entry{Command: cleanup.Command{Text: "r", Args: []string{"r"}, Limit: time.Second}}
		c.Name, c.Dir, c.Env, c.Key = "n\xff", "/d", []string{"B=\xfe"}, string('a'+rune(b>>5))
		if of := w.run.Cleanup; b&16 != 0 && len(of.Entries) > 0 && of.Entries[len(of.Entries)-1].Env != nil {
			c.EnvOf = len(of.Entries)
			c.Env = of.Entries[c.EnvOf-1].Env
		}
		c.Exits.PID = int(b) % 2
		w.tell(registered{entry: c, left: time.Duration(b>>4) * time.Second})
	case 19:
		w.tell(withdrawn{id, time.Second})
	case 20:
		w.tell(exited{id})
	case 21:
		w.tell(relayed{})
	}
}

// goOn lets happen what the machine is waiting for.
func (w *world) goOn() {
	switch w.run.State {
	case Starting:
		w.tell(targetStarted{pid: 1})
	case Running, Stopping, Killing:
		if running := w.run.Cleanup.Running(cleanup.AtStop); len(running) > 0 {
			w.tell(commandEnded{id: running[0], ending: Ending{}})
			return
		}
		w.tell(targetEnded{ending: Ending{}, after: 0})
	case Sweeping:
		w.tell(treeEmptied{})
	case Cleaning:
		if w.run.Relaying {
			w.tell(relayed{})
			return
		}
		for _, e := range w.run.Cleanup.Entries {
			if e.Progress == cleanup.Claimed {
				w.tell(commandEnded{id: e.ID, ending: Ending{}})
				return
			}
		}
		w.tell(treeEmptied{})
	}
}

func (w *world) tell(e event) {
	before, snapshot := w.run, w.run
	snapshot.Cleanup.Entries = nil
	for _, c := range before.Cleanup.Entries {
		entry := *c
		snapshot.Cleanup.Entries = append(snapshot.Cleanup.Entries, &entry)
	}
	after, todo := next(before, e)
	if _, again := e.(retried); again {
		for _, c := range before.Cleanup.Entries {
			if c.Outcome.Interrupted {
				w.retried[c.ID]++
			}
		}
	}
	if r, keep := recordOf(e, after.moved(before)); keep {
		w.keep(r)
	}
	if !reflect.DeepEqual(before, snapshot) {
		w.t.Fatalf("%T made the machine change what it was given, from %+v to %+v", e, snapshot, before)
	}
	if _, again := e.(retried); after.State < before.State && !(again && after.State == Cleaning) {
		w.t.Fatalf("back from %v to %v on %T", before.State, after.State, e)
	}
	signal, _ := e.(signalled)
	switch {
	case e == (timeUp{graceTimer}) && before.Step == len(before.Config.steps()), e == (timeUp{deadlineTimer}),
		signal.meaning == forward.Stop && before.Stops > 0 && before.Config.KillOnRepeat:
		w.graceOver = true
	}
	if after.Clearing && len(after.Cleanup.Running(cleanup.AtExit)) > 0 {
		w.t.Fatalf("%T: what commands leave is killed while one runs: %+v", e, after)
	}
	w.run = after
	for _, c := range after.Cleanup.Entries {
		if c.Progress == cleanup.Ended { // or it was given up
			delete(w.commands, c.ID)
		}
	}
	for _, a := range todo {
		switch a := a.(type) {
		case killTree:
			if after.State < Cleaning && !w.graceOver {
				w.t.Fatalf("SIGKILL before the grace was over, in %v on %T", before.State, e)
			}
			if after.State == Cleaning && len(after.Cleanup.Running(cleanup.AtExit)) > 0 {
				w.t.Fatalf("SIGKILL to commands that run: %v", w.commands)
			}
		case startCommand:
			w.start(a.id, e)
		case answer:
			w.answered(a, e, before)
		}
	}
}

func (w *world) start(id int, why event) {
	c, _ := w.run.Cleanup.Get(id)
	if !w.run.starts(c.When) || w.run.Relaying {
		w.t.Fatalf("command %d in %v", id, w.run.State)
	}
	if _, retry := why.(commandTimer); retry {
		w.commands[id] = true
		return
	}
	w.taken[id]++
	w.commands[id] = true
	if _, fired := why.(exited); fired {
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

// answered: what is promised to who has asked is what has become of the run.
func (w *world) answered(a answer, e event, before Run) {
	c, known := w.run.Cleanup.Get(a.id)
	if _, ok := e.(withdrawn); ok {
		if (a.refusal == "") != (known && c.Progress == cleanup.Withdrawn) {
			w.t.Fatalf("withdrawing %d in %v was answered with %q", a.id, before.State, a.refusal)
		}
		return
	}
	if reg := e.(registered); a.refusal == "" && c.Key != reg.entry.Key || a.refusal != "" && w.run.Cleanup.Changes != before.Cleanup.Changes {
		w.t.Fatalf("registering in %v was answered with %+v: %+v", before.State, a, w.run)
	}
}

func (w *world) keep(r record) {
	text, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ledger = append(w.ledger, text)
}

// writeDown has the run go on from what was written down of it.
func (w *world) writeDown() {
	m, err := remember(w.ledger)
	if err != nil {
		w.t.Fatal(err)
	}
	m.run.Deadlines = w.run.Deadlines // the machine knows nothing of them
	if diff := cmp.Diff(w.run, m.run, cmpopts.EquateEmpty()); diff != "" {
		w.t.Fatalf("remembered otherwise: %s", diff)
	}
	w.run = m.run
}
