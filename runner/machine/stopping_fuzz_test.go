package machine

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"graceful/cleanup"
	"graceful/forward"
)

// FuzzStop leads a run on a clock of its own through a world that wants to stop as little as bytes make it, and holds the
// machine to the order of a stop and to the deadline: whatever the schedule, the drain, the limits and the moments of
// the signals are.
func FuzzStop(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0xff, 3, 2, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{0x0f, 3, 3, 3, 1, 0, 0, 0, 0, 200, 200, 200, 200, 200, 15, 1, 15, 30})
	f.Add([]byte{0x73, 1, 2, 9, 30, 4, 90, 90, 60, 60, 1, 1, 2, 2, 3, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newClockWorld(t, data)
		if w != nil {
			w.lead()
		}
	})
}

// due is what happens at a moment.
type due struct {
	at    time.Duration
	event Event
}

type clockWorld struct {
	t      *testing.T
	data   []byte
	run    Run
	now    time.Duration
	coming []due
	lives  map[int]bool // commands

	stopped   time.Duration // when there was first a reason to stop; below 0: none yet
	stopsOn   int           // which of its signals ends the target; 0: none but SIGKILL
	survivors time.Duration // how long they live if nobody kills them; 0: there are none
	order     []string      // what was done, in words
	taken     map[int]int
}

// byte is the next one, 0 when there are no more.
func (w *clockWorld) byte() int {
	if len(w.data) == 0 {
		return 0
	}
	b := w.data[0]
	w.data = w.data[1:]
	return int(b)
}

func (w *clockWorld) time() time.Duration { return time.Duration(w.byte()) * 100 * time.Millisecond }

func newClockWorld(t *testing.T, data []byte) *clockWorld {
	w := &clockWorld{t: t, data: data, lives: map[int]bool{}, taken: map[int]int{}, stopped: -1}
	options := w.byte()
	c := asked{Policy: Policy{ForwardTo: ForwardToGroup, KillOnRepeat: options&1 != 0, Survivors: AllSurvivors()[(options>>1&3)%3], Order: cleanup.Orders()[(options>>3&3)%3], Grace: w.time(), Drain: w.time()}}
	if options&32 != 0 {
		c.Deadline = 3 * w.time()
	}
	if options&64 != 0 {
		c.Timeout = w.time()
	}
	if options&128 != 0 {
		for range 1 + w.byte()%4 {
			c.Schedule = append(c.Schedule, Step{[]int{NoSignal, 0, sigINT, SigTERM, sigUSR1}[w.byte()%5], w.time()})
		}
	}
	for range w.byte() % 4 {
		c.OnStop = append(c.OnStop, cleanup.Command{Text: "s", Args: []string{"s"}, Limit: 1 + w.time()})
	}
	for range w.byte() % 4 {
		c.OnExit = append(c.OnExit, cleanup.Command{Text: "e", Args: []string{"e"}, Limit: 1 + w.time()})
	}
	c.Unsignalled = c.Drain
	for _, command := range c.OnStop {
		c.Unsignalled += command.Limit
	}
	if c.Deadline > 0 && c.run().StoppingTime() <= 0 {
		return nil // is refused
	}
	w.stopsOn = w.byte() % 4
	if w.byte()%2 != 0 {
		w.survivors = w.time()
	}
	if end := w.byte(); end%4 == 0 {
		w.coming = append(w.coming, due{w.time(), TargetEnded{}}) // it ends by itself
	}
	w.run = c.run()
	for range w.byte() % 8 {
		at, what := 10*w.time(), w.byte()
		switch id := 1 + what/8; what % 4 {
		case 0, 1:
			command := cleanup.Command{Text: "f", Args: []string{"f"}, Limit: 1 + w.time()}
			w.coming = append(w.coming, due{at, Registered{Entry: cleanup.Entry{
				Command: command, Registration: cleanup.Registration{Exits: cleanup.Process{PID: what % 2}},
			}}})
		case 2:
			w.coming = append(w.coming, due{at, Withdrawn{ID: id}})
		case 3:
			w.coming = append(w.coming, due{at, Exited{id}})
		}
	}
	for range min(len(w.data)/2, 20) {
		sig := []int{SigTERM, sigINT, sigHUP, 3}[w.byte()%4]
		w.coming = append(w.coming, due{10 * w.time(), Signalled{sig, forward.MeaningOf(syscall.Signal(sig))}})
	}
	w.coming = append(w.coming, due{time.Hour, stop(SigTERM)}) // in the end somebody wants it to stop
	return w
}

// lead lets happen what is to happen, the earliest first.
func (w *clockWorld) lead() {
	began := time.Unix(0, 0)
	w.tell(TargetStarted{PID: 100})
	for n := 0; w.run.State != Done; n++ {
		if n > 10000 {
			w.t.Fatalf("it does not end: %+v", w.run)
		}
		next := due{at: -1}
		for _, d := range w.run.Deadlines {
			e := Event(TimeUp{d.Name})
			if d.ID != 0 {
				e = CommandTimer{d.ID, d.Name}
			}
			if at := d.At.Sub(began); next.at < 0 || at < next.at {
				next = due{at, e}
			}
		}
		i := -1
		for k, d := range w.coming {
			if next.at < 0 || d.at < next.at {
				next, i = d, k
			}
		}
		if next.at < 0 {
			w.t.Fatalf("nothing happens any more: %+v", w.run)
		}
		if i >= 0 {
			w.coming = slices.Delete(w.coming, i, i+1)
		}
		w.now = max(w.now, next.at)
		w.tell(next.event)
	}
	w.check()
}

func (w *clockWorld) later(after time.Duration, e Event) {
	w.coming = append(w.coming, due{w.now + after, e})
}

func (w *clockWorld) tell(e Event) {
	before := w.run
	switch e := e.(type) {
	case TargetEnded:
		if before.Target.Ended {
			return
		}
	case CommandEnded:
		if !w.lives[e.ID] {
			return
		}
		delete(w.lives, e.ID)
	}
	left := time.Duration(0)
	for _, d := range before.Deadlines {
		if d.Name == DeadlineTimer {
			left = d.At.Sub(time.Unix(0, 0).Add(w.now))
		}
	}
	switch r := e.(type) {
	case Registered:
		r.Left, e = left, r
	case Withdrawn:
		r.Left, e = left, r
	}
	var todo []Action
	w.run, todo = Advance(before, e, time.Unix(0, 0).Add(w.now))
	s, _ := e.(Signalled)
	if reason := s.Meaning == forward.Stop || e == (TimeUp{TimeoutTimer}) && before.State == Running; reason && w.stopped < 0 {
		w.stopped = w.now
	}
	if w.run.State < before.State {
		w.t.Fatalf("back from %v to %v on %T", before.State, w.run.State, e)
	}
	if w.run.Stop.Phase < before.Stop.Phase {
		w.t.Fatalf("back to phase %v on %T", w.run.Stop.Phase, e)
	}
	if s.Meaning == forward.Stop && before.State == Stopping && before.Stop.Phase == Draining && w.run.State == Stopping && w.run.Stop.Phase == Draining {
		w.t.Fatalf("the drain is not cut short")
	}
	if w.run.Stop.Phase == Draining && before.Stop.Phase != Draining {
		w.order = append(w.order, "drain")
	}
	if _, ended := e.(TargetEnded); ended && w.survivors > 0 {
		w.later(w.survivors, TreeEmptied{})
	} else if ended {
		w.later(0, TreeEmptied{})
	}
	for _, a := range todo {
		w.do(a)
	}
}

func (w *clockWorld) do(a Action) {
	switch a := a.(type) {
	case ForwardSignal:
		if a.Signal == sigHUP {
			return
		}
		w.order = append(w.order, "signal")
		if w.stopsOn--; w.stopsOn == 0 {
			w.later(time.Second, TargetEnded{})
		}
	case KillTree:
		w.order = append(w.order, "kill")
		if !w.run.Target.Ended {
			w.later(0, TargetEnded{Ending: Ending{Signal: SigKILL}})
		}
		w.survivors = 0
		w.later(0, TreeEmptied{})
	case StartCommand:
		c, _ := w.run.Cleanup.Get(a.ID)
		if w.run.State == Cleaning || c.When == cleanup.AtStop {
			w.order = append(w.order, strings.Replace(c.Command.Text, "f", "e", 1))
		}
		w.taken[a.ID]++
		w.lives[a.ID] = true
		w.later(0, CommandStarted{ID: a.ID, PID: 200 + a.ID})
		if hangs := w.byte(); hangs%3 != 0 {
			w.later(time.Duration(hangs)*50*time.Millisecond, CommandEnded{ID: a.ID})
		}
	case KillCommand:
		w.later(0, CommandEnded{ID: a.ID, Ending: Ending{Signal: SigKILL}})
	}
}

func (w *clockWorld) check() {
	if d := w.run.Policy.Deadline; d > 0 && w.stopped >= 0 && w.now-w.stopped > d {
		w.t.Errorf("it took %v from the first reason to stop on, and the deadline was %v: %v", w.now-w.stopped, d, w.order)
	}
	for _, c := range w.run.Cleanup.Entries {
		if n := w.taken[c.ID]; n > 1 || n == 0 && c.When == cleanup.AtExit && c.Progress != cleanup.Withdrawn {
			w.t.Errorf("command %d (%s) was started %d times", c.ID, c.Command.Text, n)
		}
	}
	// s* drain? signal* kill* e*, where those of the commands' own are not counted.
	rank := map[string]int{"s": 0, "drain": 1, "signal": 2, "kill": 3, "e": 4}
	was := 0
	for _, what := range w.order {
		if what == "kill" && was == rank["e"] {
			continue // what commands have left
		}
		if rank[what] < was {
			w.t.Errorf("%q out of order: %v", what, w.order)
		}
		was = max(was, rank[what])
	}
}
