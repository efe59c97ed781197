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

// FuzzStop simulates a run on a simulated clock. Bytes select the options, the times of the events, and the behaviour
// of the processes. A stop must keep its order and the deadline, no command may start twice, and each cleanup command
// that is not withdrawn must start.
func FuzzStop(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0xff, 3, 2, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{0x0f, 3, 3, 3, 1, 0, 0, 0, 0, 200, 200, 200, 200, 200, 15, 1, 15, 30})
	f.Add([]byte{0x73, 1, 2, 9, 30, 4, 90, 90, 60, 60, 1, 1, 2, 2, 3, 3})
	// The next input has a stop signal between a command's SIGTERM and SIGKILL. The one after that has two signals of
	// one stop in a drain. In the last input, the first stop signal comes after SIGKILL for the survivors.
	f.Add([]byte("d\x0f\x03\x03\x0f\x00\x02\x00\x00\x8d\x02\x00\x00\xd1\xd6\xd2\x01\x01"))
	f.Add([]byte("\x0f`````\x03\x03\x03``\x03\x03\x03\x0f"))
	f.Add([]byte(">\x00\x00>\x00>>n\x8d\x80\x00\x00\x00n\x00\x00f\x8d\x8d\x8d\xbd\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := simulation{
			t: t, data: data, alive: map[int]bool{}, starts: map[int]int{}, firstStop: -1,
		}
		if s.setUp() {
			s.play()
			s.check()
		}
	})
}

// planned is an event at a time from the beginning of the run.
type planned struct {
	at    time.Duration
	event Event
}

// simulation contains a run and its simulated processes.
type simulation struct {
	t    *testing.T
	data []byte // the remaining bytes

	run   Run
	now   time.Duration
	plan  []planned    // unordered
	alive map[int]bool // ids of commands with a live process

	fatal     int           // number of further signals that end the target; 0 or less: only SIGKILL ends it
	survivors time.Duration // lifetime of survivors without SIGKILL; 0: there are none

	firstStop time.Duration // time of the first reason for a stop; negative: none yet
	steps     []string      // the actions of graceful, as the words that check uses
	starts    map[int]int   // number of starts of each command, by id
	late      bool          // a start has failed, and was tried again
}

// epoch is the beginning of the run.
var epoch = time.Unix(0, 0)

// byte consumes the next byte, or returns 0 if none is left.
func (s *simulation) byte() int {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return int(b)
}

// time consumes a duration of up to 25.5 s.
func (s *simulation) time() time.Duration { return time.Duration(s.byte()) * 100 * time.Millisecond }

// commands consumes up to three commands with this text.
func (s *simulation) commands(text string) (commands []cleanup.Command) {
	for range s.byte() % 4 {
		commands = append(commands, s.command(text))
	}
	return commands
}

// command consumes a command with a limit.
func (s *simulation) command(text string) cleanup.Command {
	return cleanup.Command{Text: text, Args: []string{text}, Limit: 1 + s.time()}
}

// setUp consumes the options and the plan. It returns false if graceful would refuse these options.
func (s *simulation) setUp() bool {
	o := s.options()
	s.run = New(o.Policy, o.OnExit, o.OnStop)
	if o.Deadline > 0 && s.run.StoppingTime() <= 0 {
		return false
	}
	s.fatal = s.byte() % 4
	if s.byte()%2 != 0 {
		s.survivors = s.time()
	}
	if s.byte()%4 == 0 {
		s.after(s.time(), TargetEnded{})
	}
	for range s.byte() % 8 {
		at, kind := 10*s.time(), s.byte()
		switch id := 1 + kind/8; kind % 4 {
		case 0, 1:
			e := cleanup.Entry{Command: s.command("f")}
			e.Awaited.PID = kind % 2
			s.after(at, Registered{Entry: e})
		case 2:
			s.after(at, Withdrawn{ID: id})
		case 3:
			s.after(at, ProcessExited{id})
		}
	}
	for range min(len(s.data)/2, 20) {
		sig := []int{SigTERM, sigINT, sigHUP, 3}[s.byte()%4]
		s.after(10*s.time(), Signalled{Signal: sig, Meaning: forward.MeaningOf(syscall.Signal(sig))})
	}
	s.after(time.Hour, stopSignal(SigTERM)) // so that every run ends
	return true
}

// options consumes the options of the run.
func (s *simulation) options() (o options) {
	flags := s.byte()
	o.ForwardTo, o.OnRepeat = ForwardToGroup, OnRepeatValues()[flags&1*2]
	o.Survivors = SurvivorsValues()[(flags>>1&3)%3]
	o.Order = cleanup.Orders()[(flags>>3&3)%3]
	o.Grace, o.Drain = s.time(), s.time()
	if flags&32 != 0 {
		o.Deadline = 3 * s.time()
	}
	if flags&64 != 0 {
		o.Timeout = s.time()
	}
	if flags&128 != 0 {
		for range 1 + s.byte()%4 {
			sig := []int{NoSignal, 0, sigINT, SigTERM, sigUSR1}[s.byte()%5]
			o.Schedule = append(o.Schedule, Step{sig, s.time()})
		}
	}
	o.OnStop, o.OnExit = s.commands("s"), s.commands("e")
	o.TimeBeforeSignal = o.Drain
	for _, c := range o.OnStop {
		o.TimeBeforeSignal += c.Limit
	}
	return o
}

// after plans an event at the time d from now.
func (s *simulation) after(d time.Duration, e Event) { s.plan = append(s.plan, planned{s.now + d, e}) }

// play applies timers and planned events in order of time until the run is done.
func (s *simulation) play() {
	s.happen(TargetStarted{PID: 100})
	for n := 0; s.run.State != Done; n++ {
		if n > 10000 {
			s.t.Fatalf("the run does not end: %+v", s.run)
		}
		next := planned{at: -1}
		for _, d := range s.run.Deadlines {
			e := Event(TimeUp{d.Name})
			if d.ID != 0 {
				e = CommandTimer{d.ID, d.Name}
			}
			if at := d.At.Sub(epoch); next.at < 0 || at < next.at {
				next = planned{at, e}
			}
		}
		index := -1
		for i, p := range s.plan {
			if next.at < 0 || p.at < next.at {
				next, index = p, i
			}
		}
		if next.at < 0 {
			s.t.Fatalf("no event is left: %+v", s.run)
		}
		if index >= 0 {
			s.plan = slices.Delete(s.plan, index, index+1)
		}
		s.now = max(s.now, next.at)
		s.happen(next.event)
	}
}

// happen applies an event, checks the transition, and performs the actions. It applies only the first end of a process.
func (s *simulation) happen(e Event) {
	before := s.run
	switch event := e.(type) {
	case TargetEnded:
		if before.Target.Ended {
			return
		}
		s.after(s.survivors, TreeEmptied{})
	case CommandEnded:
		if !s.alive[event.ID] {
			return
		}
		delete(s.alive, event.ID)
	case Registered:
		event.Left, e = s.left(), event
	case Withdrawn:
		event.Left, e = s.left(), event
	}
	var actions []Action
	s.run, actions = Advance(before, e, epoch.Add(s.now))
	s.checkTransition(before, e)
	if s.run.Stop.Phase == PhaseDrain && before.Stop.Phase != PhaseDrain {
		s.steps = append(s.steps, "drain")
	}
	for _, a := range actions {
		s.perform(a)
	}
}

// left returns the time until the deadline timer ends, or 0 if that timer does not run.
func (s *simulation) left() time.Duration {
	for _, d := range s.run.Deadlines {
		if d.Name == DeadlineTimer {
			return d.At.Sub(epoch.Add(s.now))
		}
	}
	return 0
}

// checkTransition fails the test if the state or the phase goes back. It also fails the test if a stop signal does not
// end a drain, unless the signal belongs to the stop that began the drain.
func (s *simulation) checkTransition(before Run, e Event) {
	signal, _ := e.(Signalled)
	stop := signal.Meaning == forward.Stop
	timeout := e == (TimeUp{TimeoutTimer}) && before.State == Running
	if (stop || timeout) && s.firstStop < 0 {
		s.firstStop = s.now
	}
	if s.run.State < before.State {
		s.t.Fatalf("back from %v to %v on %T", before.State, s.run.State, e)
	}
	if s.run.Stop.Phase < before.Stop.Phase {
		s.t.Fatalf("back to phase %v on %T", s.run.Stop.Phase, e)
	}
	drains := func(r Run) bool { return r.State == Stopping && r.Stop.Phase == PhaseDrain }
	if stop && !before.Stop.WindowOpen && drains(before) && drains(s.run) {
		s.t.Fatal("a stop signal does not end the drain")
	}
}

// perform plans the consequences of an action. SIGKILL ends every process at once.
func (s *simulation) perform(a Action) {
	switch a := a.(type) {
	case ForwardSignal:
		if a.Signal == sigHUP {
			return
		}
		s.steps = append(s.steps, "signal")
		if s.fatal--; s.fatal == 0 {
			s.after(time.Second, TargetEnded{})
		}
	case KillTree:
		s.steps = append(s.steps, "kill")
		s.survivors = 0
		if !s.run.Target.Ended {
			s.after(0, TargetEnded{Ending: Ending{Signal: SigKILL}})
		}
		s.after(0, TreeEmptied{})
	case StartCommand:
		runs := s.byte()
		if runs%5 == 4 {
			s.late = true
			s.after(0, CommandFailed{ID: a.ID, Err: "no process is left", Transient: true})
			return
		}
		c, _ := s.run.Cleanup.Get(a.ID)
		if s.run.State == Cleaning || c.When == cleanup.AtStop {
			s.steps = append(s.steps, strings.Replace(c.Command.Text, "f", "e", 1))
		}
		s.starts[a.ID]++
		s.alive[a.ID] = true
		s.happen(CommandStarted{ID: a.ID, PID: 200 + a.ID})
		if runs%3 != 0 { // otherwise the command runs until SIGKILL
			s.after(time.Duration(runs)*50*time.Millisecond, CommandEnded{ID: a.ID})
		}
	case TerminateCommand:
		s.checkPID(a.ID)
	case KillCommand:
		s.checkPID(a.ID)
		s.after(0, CommandEnded{ID: a.ID, Ending: Ending{Signal: SigKILL}})
	}
}

// checkPID fails the test if a signal is sent to a command without a pid: for kill(2), 0 is graceful's own group.
func (s *simulation) checkPID(id int) {
	if c, _ := s.run.Cleanup.Get(id); c.PID == 0 {
		s.t.Fatalf("a signal to command %d, which has no pid: %+v", id, s.run)
	}
}

// check fails the test if the deadline was missed although each start succeeded at once, if a command was started
// twice, or if a cleanup command was neither started nor withdrawn, although it could be started. It also checks the
// order: on-stop commands (s), drain, signals, SIGKILL, cleanup commands (e). It ignores SIGKILL to the remaining
// processes of cleanup commands.
func (s *simulation) check() {
	if d := s.run.Policy.Deadline; d > 0 && s.firstStop >= 0 && s.now-s.firstStop > d && !s.late {
		s.t.Errorf("the stop took %v, the deadline is %v: %v", s.now-s.firstStop, d, s.steps)
	}
	for c := range s.run.Cleanup.Entries.All() {
		n := s.starts[c.ID]
		if n > 1 || n == 0 && c.When == cleanup.AtExit && c.Progress != cleanup.Withdrawn && !c.Outcome.Unstarted {
			s.t.Errorf("command %d (%s) was started %d times", c.ID, c.Command.Text, n)
		}
	}
	rank := map[string]int{"s": 0, "drain": 1, "signal": 2, "kill": 3, "e": 4}
	reached := 0
	for _, step := range s.steps {
		if step == "kill" && reached == rank["e"] {
			continue
		}
		if rank[step] < reached {
			s.t.Errorf("%q out of order: %v", step, s.steps)
		}
		reached = max(reached, rank[step])
	}
}
