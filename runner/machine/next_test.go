package machine

import (
	"strings"
	"testing"
	"time"

	"graceful/cleanup"
	"graceful/forward"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	sigHUP  = 1
	sigINT  = 2
	sigUSR1 = 10
	sigTSTP = 20
)

var (
	grace   = Timer{Name: GraceTimer}
	actions = cmp.AllowUnexported(ForwardSignal{}, Suspend{}, SignalSurvivors{}, KillTree{}, startTimer{}, stopTimer{},
		StartCommand{}, TerminateCommand{}, KillCommand{}, Timer{})
)

// at is a run with two cleanup commands that stands in a state.
func at(s State, change ...func(*Run)) Run {
	r := Run{State: s, Target: Target{PID: 100}, Policy: Policy{Grace: 10 * time.Second}}
	for _, text := range []string{"first", "second"} {
		r.Cleanup.Stack = r.Cleanup.Push(cleanup.AtExit, cleanup.Command{Text: text, Limit: 30 * time.Second})
	}
	switch s {
	case Starting:
		r.Target.PID = 0
	case Stopping:
		r.Stop.Signal, r.Stop.Count, r.Stop.Phase, r.Stop.Step = SigTERM, 1, Signalling, 1
	case Killing:
		r.Stop.Signal, r.Stop.Count, r.Stop.Phase, r.Stop.Step, r.Stop.Escalated = SigTERM, 1, Signalling, 1, true
	case Sweeping:
		r.Target.Ended, r.Stop.Phase, r.Stop.Step = true, Signalling, 1
	case Cleaning:
		r.Target.Ended = true
		r.Cleanup.Stack, _ = r.Cleanup.Claim(cleanup.AtExit)
		r.Cleanup.Stack = r.Cleanup.Update(2, func(c *cleanup.Entry) { c.PID = 200 })
	case Done:
		r.Target.Ended = true
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func stop(sig int) Event { return Signalled{sig, forward.Stop} }
func pass(sig int) Event { return Signalled{sig, forward.Pass} }
func job(sig int) Event  { return Signalled{sig, forward.Suspend} }

// Every row of the states and of the signals: what a run in a state makes of an event.
func TestEveryRowOfTheMachine(t *testing.T) {
	firstCommand := []Action{startTimer{Timer{LimitTimer, 2}, 30 * time.Second}, StartCommand{2}}
	ended := TargetEnded{Ending: Ending{Code: 7}, After: time.Minute}
	escalated := func(r *Run) { r.Stop.Escalated = true }
	clearing := func(r *Run) {
		r.Cleanup.Clearing = true
		r.Cleanup.Stack = r.Cleanup.Update(2, func(c *cleanup.Entry) { c.Progress = cleanup.Ended })
	}
	unstarted := func(r *Run) { r.Cleanup.Stack = r.Cleanup.Update(2, func(c *cleanup.Entry) { c.PID = 0 }) }
	over := func(names ...TimerName) (stops []Action) {
		for _, name := range names {
			stops = append(stops, stopTimer{Timer{Name: name}})
		}
		return stops
	}
	begun := over(TimeoutTimer)
	swept := over(TimeoutTimer, DrainTimer)
	killed := over(GraceTimer, DrainTimer)
	cleaned := over(GraceTimer, TimeoutTimer, DeadlineTimer)
	ofCommand := func(id int) []Action {
		var stops []Action
		for _, name := range []TimerName{RetryTimer, LimitTimer, KillTimer, AbandonTimer} {
			stops = append(stops, stopTimer{Timer{name, id}})
		}
		return stops
	}

	for name, row := range map[string]struct {
		from Run
		on   Event
		to   State
		do   []Action
	}{
		"starting: the target runs":                               {at(Starting), TargetStarted{PID: 100}, Running, nil},
		"starting: a target that cannot be started is cleaned up": {at(Starting), TargetFailed{Status: 127}, Cleaning, append(cleaned, firstCommand...)},

		"running: a stop signal goes on, with CONT after it, and the grace begins": {at(Running), stop(SigTERM), Stopping,
			append(begun, ForwardSignal{SigTERM, false, true}, startTimer{grace, 10 * time.Second})},
		"running: any other signal goes on":                  {at(Running), pass(sigUSR1), Running, []Action{ForwardSignal{sigUSR1, false, false}}},
		"running: job control stops the group and then us":   {at(Running), job(sigTSTP), Running, []Action{ForwardSignal{sigTSTP, false, false}, Suspend{}}},
		"running: our own signals are nobody's business":     {at(Running), Signalled{17, forward.Ours}, Running, nil},
		"running: the end of the target begins the sweep":    {at(Running), ended, Sweeping, append(swept, SignalSurvivors{SigTERM, true, false}, startTimer{grace, 10 * time.Second})},
		"running: no grace is running that could be over":    {at(Running), TimeUp{GraceTimer}, Running, nil},
		"stopping: a stop signal goes on again":              {at(Stopping), stop(sigINT), Stopping, []Action{ForwardSignal{sigINT, false, true}}},
		"stopping: any other signal goes on":                 {at(Stopping), pass(sigHUP), Stopping, []Action{ForwardSignal{sigHUP, false, false}}},
		"stopping: job control works":                        {at(Stopping), job(sigTSTP), Stopping, []Action{ForwardSignal{sigTSTP, false, false}, Suspend{}}},
		"stopping: after the grace comes SIGKILL":            {at(Stopping), TimeUp{GraceTimer}, Killing, append(killed, KillTree{})},
		"stopping: survivors have what is left of the grace": {at(Stopping), ended, Sweeping, append(swept, SignalSurvivors{SigTERM, true, true})},
		"killing: no signal helps any more":                  {at(Killing), stop(SigTERM), Killing, nil},
		"killing: the rest is killed too":                    {at(Killing), ended, Sweeping, append(swept, KillTree{})},
		"sweeping: a stop signal goes to the survivors":      {at(Sweeping), stop(sigINT), Sweeping, []Action{SignalSurvivors{sigINT, true, false}}},
		"sweeping: any other signal goes to the survivors":   {at(Sweeping), pass(sigUSR1), Sweeping, []Action{SignalSurvivors{sigUSR1, false, false}}},
		"sweeping: there is no job to control":               {at(Sweeping), job(sigTSTP), Sweeping, nil},
		"sweeping: after the grace comes SIGKILL":            {at(Sweeping), TimeUp{GraceTimer}, Sweeping, append(killed, KillTree{})},
		"sweeping: SIGKILL is decided on once":               {at(Sweeping, escalated), TimeUp{GraceTimer}, Sweeping, nil},
		"sweeping: killed survivors get no signals":          {at(Sweeping, escalated), stop(SigTERM), Sweeping, nil},
		"sweeping: an empty tree lets the cleaning begin":    {at(Sweeping), TreeEmptied{}, Cleaning, append(cleaned, firstCommand...)},
		"cleaning: a stop signal changes nothing":            {at(Cleaning), stop(SigTERM), Cleaning, nil},
		"cleaning: any other signal is dropped":              {at(Cleaning), pass(sigHUP), Cleaning, nil},
		"cleaning: there is no job to control":               {at(Cleaning), job(sigTSTP), Cleaning, nil},
		"cleaning: the target does not end twice":            {at(Cleaning), ended, Cleaning, nil},
		"cleaning: what a command has left goes before the next": {at(Cleaning), CommandEnded{ID: 2, Ending: Ending{}}, Cleaning,
			append(ofCommand(2), KillCommand{2}, KillTree{})},
		"cleaning: the next one begins when that is gone": {at(Cleaning, clearing), TreeEmptied{}, Cleaning,
			[]Action{startTimer{Timer{LimitTimer, 1}, 30 * time.Second}, StartCommand{1}}},
		"cleaning: an empty tree means nothing while a command runs": {at(Cleaning), TreeEmptied{}, Cleaning, nil},
		"cleaning: a missing program does not keep the next":         {at(Cleaning), CommandFailed{ID: 1, Err: "none"}, Cleaning, nil}, // not claimed
		"cleaning: for want of a resource it is tried again":         {at(Cleaning, unstarted), CommandFailed{ID: 2, Transient: true}, Cleaning, []Action{startTimer{Timer{RetryTimer, 2}, RetryAfter}}},
		"cleaning: trying again":                                     {at(Cleaning, unstarted), CommandTimer{2, RetryTimer}, Cleaning, []Action{StartCommand{2}}},
		"cleaning: one that runs is not started again":               {at(Cleaning), CommandTimer{2, RetryTimer}, Cleaning, nil},
		"cleaning: over its limit a command gets SIGTERM":            {at(Cleaning), CommandTimer{2, LimitTimer}, Cleaning, []Action{TerminateCommand{2}, startTimer{Timer{KillTimer, 2}, CommandKillAfter}}},
		"cleaning: then SIGKILL":                                     {at(Cleaning), CommandTimer{2, KillTimer}, Cleaning, []Action{KillCommand{2}, startTimer{Timer{AbandonTimer, 2}, AbandonAfter}}},
		"cleaning: one that does not even die of that is left": {at(Cleaning), CommandTimer{2, AbandonTimer}, Cleaning,
			append(ofCommand(2), KillCommand{2}, KillTree{})},
		"cleaning: a timer of a command that has not begun is stale": {at(Cleaning), CommandTimer{1, LimitTimer}, Cleaning, nil},
		"cleaning: an unknown command is none":                       {at(Cleaning), CommandEnded{ID: 9, Ending: Ending{}}, Cleaning, nil},
		"done: nothing happens any more":                             {at(Done), stop(SigTERM), Done, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, do := Next(row.from, row.on)
			if got.State != row.to {
				t.Errorf("state %v, want %v", got.State, row.to)
			}
			if diff := cmp.Diff(row.do, do, actions, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
		})
	}
}

// tell leads a run through events.
func tell(r Run, events ...Event) Run {
	for _, e := range events {
		r, _ = Next(r, e)
	}
	return r
}

func TestWhatARunRemembersOfItsEnd(t *testing.T) {
	exits := func(code int) Event { return TargetEnded{Ending: Ending{Code: code}, After: time.Second} }
	dies := func(sig int) Event { return TargetEnded{Ending: Ending{Signal: sig}, After: time.Second} }
	for name, c := range map[string]struct {
		events  []Event
		status  int
		reason  string
		stopped int
		killed  bool
	}{
		"it exits":                         {[]Event{TargetStarted{PID: 1}, exits(3)}, 3, "exited", 0, false},
		"a signal ends it":                 {[]Event{TargetStarted{PID: 1}, dies(11)}, 139, "signaled", 0, false},
		"it cannot be started":             {[]Event{TargetFailed{Status: 126}}, 126, "start-failed", 0, false},
		"it is stopped and exits":          {[]Event{TargetStarted{PID: 1}, stop(sigINT), exits(0)}, 0, "stopped", sigINT, false},
		"the first stop signal counts":     {[]Event{TargetStarted{PID: 1}, stop(sigINT), stop(SigTERM), exits(0)}, 0, "stopped", sigINT, false},
		"it is stopped and killed":         {[]Event{TargetStarted{PID: 1}, stop(SigTERM), TimeUp{GraceTimer}, dies(9)}, 137, "stopped", SigTERM, true},
		"it exits, its survivors are shot": {[]Event{TargetStarted{PID: 1}, exits(4), TimeUp{GraceTimer}}, 4, "exited", 0, true},
		"stopped after its end is exited":  {[]Event{TargetStarted{PID: 1}, exits(4), stop(SigTERM)}, 4, "exited", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := tell(at(Starting), c.events...)
			if r.Status() != c.status || r.Reason() != c.reason || r.Stop.Signal != c.stopped || r.Stop.Escalated != c.killed {
				t.Errorf("status %d, reason %s, stop signal %d, escalated %t; want %d, %s, %d, %t",
					r.Status(), r.Reason(), r.Stop.Signal, r.Stop.Escalated, c.status, c.reason, c.stopped, c.killed)
			}
		})
	}
}

func TestCommandsInParallel(t *testing.T) {
	r := at(Sweeping)
	r.Cleanup.Order = cleanup.Parallel
	r, todo := Next(r, TreeEmptied{})
	started := 0
	for _, a := range todo {
		if _, ok := a.(StartCommand); ok {
			started++
		}
	}
	if started != 2 {
		t.Fatalf("%d commands started at once, want 2", started)
	}
	r = tell(r, CommandStarted{ID: 1, PID: 201}, CommandStarted{ID: 2, PID: 202}, CommandEnded{ID: 1, Ending: Ending{}})
	if r.Cleanup.Clearing {
		t.Error("what is left is killed while one still runs")
	}
	if r = tell(r, CommandEnded{ID: 2, Ending: Ending{}}); !r.Cleanup.Clearing {
		t.Error("what is left is not killed after the last one")
	}
	if r = tell(r, TreeEmptied{}); r.State != Done {
		t.Errorf("state %v, want done", r.State)
	}
}

func TestACommandThatNeverStartsIsGivenUp(t *testing.T) {
	r := at(Cleaning)
	r.Cleanup.Stack = r.Cleanup.Update(2, func(c *cleanup.Entry) { c.PID = 0 })
	r = tell(r, CommandFailed{ID: 2, Transient: true}, CommandTimer{2, LimitTimer})
	c, _ := r.Cleanup.Get(2)
	if c.Progress != cleanup.Ended || !c.Outcome.Failed() || !c.TimedOut {
		t.Errorf("it is %+v", c)
	}
}

func TestWithoutCleanupCommandsTheRunIsDone(t *testing.T) {
	r := at(Sweeping)
	r.Cleanup.Stack = cleanup.Stack{}
	if r = tell(r, TreeEmptied{}); r.State != Done {
		t.Errorf("state %v, want done", r.State)
	}
}

func TestStatesAreNamedInTheOrderOfTheContract(t *testing.T) {
	var names []string
	for s := Starting; s <= Done; s++ {
		names = append(names, s.String())
	}
	if got := strings.Join(names, " → "); got != "starting → running → stopping → killing → sweeping → cleaning → done" {
		t.Error(got)
	}
}
