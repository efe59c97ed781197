package runner

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
	grace   = timer{Name: graceTimer}
	actions = cmp.AllowUnexported(forwardSignal{}, suspend{}, signalSurvivors{}, killTree{}, startTimer{}, stopTimer{},
		startCommand{}, terminateCommand{}, killCommand{}, timer{})
)

// at is a run with two cleanup commands that stands in a state.
func at(s State, change ...func(*coreRun)) coreRun {
	r := coreRun{State: s, Target: coreTarget{PID: 100}, Policy: Policy{Grace: 10 * time.Second}}
	for _, text := range []string{"first", "second"} {
		r.Cleanup.Stack = r.Cleanup.Push(cleanup.AtExit, cleanup.Command{Text: text, Limit: 30 * time.Second})
	}
	switch s {
	case Starting:
		r.Target.PID = 0
	case Stopping:
		r.Stop.Signal, r.Stop.Count, r.Stop.Phase, r.Stop.Step = sigTERM, 1, Signalling, 1
	case Killing:
		r.Stop.Signal, r.Stop.Count, r.Stop.Phase, r.Stop.Step, r.Stop.Escalated = sigTERM, 1, Signalling, 1, true
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

func stop(sig int) event { return signalled{sig, forward.Stop} }
func pass(sig int) event { return signalled{sig, forward.Pass} }
func job(sig int) event  { return signalled{sig, forward.Suspend} }

// Every row of the states and of the signals: what a run in a state makes of an event.
func TestEveryRowOfTheMachine(t *testing.T) {
	firstCommand := []action{startTimer{timer{limitTimer, 2}, 30 * time.Second}, startCommand{2}}
	ended := targetEnded{ending: Ending{Code: 7}, after: time.Minute}
	escalated := func(r *coreRun) { r.Stop.Escalated = true }
	clearing := func(r *coreRun) {
		r.Cleanup.Clearing = true
		r.Cleanup.Stack = r.Cleanup.Update(2, func(c *cleanup.Entry) { c.Progress = cleanup.Ended })
	}
	unstarted := func(r *coreRun) { r.Cleanup.Stack = r.Cleanup.Update(2, func(c *cleanup.Entry) { c.PID = 0 }) }
	over := func(names ...timerName) (stops []action) {
		for _, name := range names {
			stops = append(stops, stopTimer{timer{Name: name}})
		}
		return stops
	}
	begun := over(timeoutTimer)
	swept := over(timeoutTimer, drainTimer)
	killed := over(graceTimer, drainTimer)
	cleaned := over(graceTimer, timeoutTimer, deadlineTimer)
	ofCommand := func(id int) []action {
		var stops []action
		for _, name := range []timerName{retryTimer, limitTimer, killTimer, abandonTimer} {
			stops = append(stops, stopTimer{timer{name, id}})
		}
		return stops
	}

	for name, row := range map[string]struct {
		from coreRun
		on   event
		to   State
		do   []action
	}{
		"starting: the target runs":                               {at(Starting), targetStarted{pid: 100}, Running, nil},
		"starting: a target that cannot be started is cleaned up": {at(Starting), targetFailed{status: 127}, Cleaning, append(cleaned, firstCommand...)},

		"running: a stop signal goes on, with CONT after it, and the grace begins": {at(Running), stop(sigTERM), Stopping,
			append(begun, forwardSignal{sigTERM, false, true}, startTimer{grace, 10 * time.Second})},
		"running: any other signal goes on":                  {at(Running), pass(sigUSR1), Running, []action{forwardSignal{sigUSR1, false, false}}},
		"running: job control stops the group and then us":   {at(Running), job(sigTSTP), Running, []action{forwardSignal{sigTSTP, false, false}, suspend{}}},
		"running: our own signals are nobody's business":     {at(Running), signalled{17, forward.Ours}, Running, nil},
		"running: the end of the target begins the sweep":    {at(Running), ended, Sweeping, append(swept, signalSurvivors{sigTERM, true, false}, startTimer{grace, 10 * time.Second})},
		"running: no grace is running that could be over":    {at(Running), timeUp{graceTimer}, Running, nil},
		"stopping: a stop signal goes on again":              {at(Stopping), stop(sigINT), Stopping, []action{forwardSignal{sigINT, false, true}}},
		"stopping: any other signal goes on":                 {at(Stopping), pass(sigHUP), Stopping, []action{forwardSignal{sigHUP, false, false}}},
		"stopping: job control works":                        {at(Stopping), job(sigTSTP), Stopping, []action{forwardSignal{sigTSTP, false, false}, suspend{}}},
		"stopping: after the grace comes SIGKILL":            {at(Stopping), timeUp{graceTimer}, Killing, append(killed, killTree{})},
		"stopping: survivors have what is left of the grace": {at(Stopping), ended, Sweeping, append(swept, signalSurvivors{sigTERM, true, true})},
		"killing: no signal helps any more":                  {at(Killing), stop(sigTERM), Killing, nil},
		"killing: the rest is killed too":                    {at(Killing), ended, Sweeping, append(swept, killTree{})},
		"sweeping: a stop signal goes to the survivors":      {at(Sweeping), stop(sigINT), Sweeping, []action{signalSurvivors{sigINT, true, false}}},
		"sweeping: any other signal goes to the survivors":   {at(Sweeping), pass(sigUSR1), Sweeping, []action{signalSurvivors{sigUSR1, false, false}}},
		"sweeping: there is no job to control":               {at(Sweeping), job(sigTSTP), Sweeping, nil},
		"sweeping: after the grace comes SIGKILL":            {at(Sweeping), timeUp{graceTimer}, Sweeping, append(killed, killTree{})},
		"sweeping: SIGKILL is decided on once":               {at(Sweeping, escalated), timeUp{graceTimer}, Sweeping, nil},
		"sweeping: killed survivors get no signals":          {at(Sweeping, escalated), stop(sigTERM), Sweeping, nil},
		"sweeping: an empty tree lets the cleaning begin":    {at(Sweeping), treeEmptied{}, Cleaning, append(cleaned, firstCommand...)},
		"cleaning: a stop signal changes nothing":            {at(Cleaning), stop(sigTERM), Cleaning, nil},
		"cleaning: any other signal is dropped":              {at(Cleaning), pass(sigHUP), Cleaning, nil},
		"cleaning: there is no job to control":               {at(Cleaning), job(sigTSTP), Cleaning, nil},
		"cleaning: the target does not end twice":            {at(Cleaning), ended, Cleaning, nil},
		"cleaning: what a command has left goes before the next": {at(Cleaning), commandEnded{id: 2, ending: Ending{}}, Cleaning,
			append(ofCommand(2), killCommand{2}, killTree{})},
		"cleaning: the next one begins when that is gone": {at(Cleaning, clearing), treeEmptied{}, Cleaning,
			[]action{startTimer{timer{limitTimer, 1}, 30 * time.Second}, startCommand{1}}},
		"cleaning: an empty tree means nothing while a command runs": {at(Cleaning), treeEmptied{}, Cleaning, nil},
		"cleaning: a missing program does not keep the next":         {at(Cleaning), commandFailed{id: 1, err: "none"}, Cleaning, nil}, // not claimed
		"cleaning: for want of a resource it is tried again":         {at(Cleaning, unstarted), commandFailed{id: 2, transient: true}, Cleaning, []action{startTimer{timer{retryTimer, 2}, retryAfter}}},
		"cleaning: trying again":                                     {at(Cleaning, unstarted), commandTimer{2, retryTimer}, Cleaning, []action{startCommand{2}}},
		"cleaning: one that runs is not started again":               {at(Cleaning), commandTimer{2, retryTimer}, Cleaning, nil},
		"cleaning: over its limit a command gets SIGTERM":            {at(Cleaning), commandTimer{2, limitTimer}, Cleaning, []action{terminateCommand{2}, startTimer{timer{killTimer, 2}, commandKillAfter}}},
		"cleaning: then SIGKILL":                                     {at(Cleaning), commandTimer{2, killTimer}, Cleaning, []action{killCommand{2}, startTimer{timer{abandonTimer, 2}, abandonAfter}}},
		"cleaning: one that does not even die of that is left": {at(Cleaning), commandTimer{2, abandonTimer}, Cleaning,
			append(ofCommand(2), killCommand{2}, killTree{})},
		"cleaning: a timer of a command that has not begun is stale": {at(Cleaning), commandTimer{1, limitTimer}, Cleaning, nil},
		"cleaning: an unknown command is none":                       {at(Cleaning), commandEnded{id: 9, ending: Ending{}}, Cleaning, nil},
		"done: nothing happens any more":                             {at(Done), stop(sigTERM), Done, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, do := next(row.from, row.on)
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
func tell(r coreRun, events ...event) coreRun {
	for _, e := range events {
		r, _ = next(r, e)
	}
	return r
}

func TestWhatARunRemembersOfItsEnd(t *testing.T) {
	exits := func(code int) event { return targetEnded{ending: Ending{Code: code}, after: time.Second} }
	dies := func(sig int) event { return targetEnded{ending: Ending{Signal: sig}, after: time.Second} }
	for name, c := range map[string]struct {
		events  []event
		status  int
		reason  string
		stopped int
		killed  bool
	}{
		"it exits":                         {[]event{targetStarted{pid: 1}, exits(3)}, 3, "exited", 0, false},
		"a signal ends it":                 {[]event{targetStarted{pid: 1}, dies(11)}, 139, "signaled", 0, false},
		"it cannot be started":             {[]event{targetFailed{status: 126}}, 126, "start-failed", 0, false},
		"it is stopped and exits":          {[]event{targetStarted{pid: 1}, stop(sigINT), exits(0)}, 0, "stopped", sigINT, false},
		"the first stop signal counts":     {[]event{targetStarted{pid: 1}, stop(sigINT), stop(sigTERM), exits(0)}, 0, "stopped", sigINT, false},
		"it is stopped and killed":         {[]event{targetStarted{pid: 1}, stop(sigTERM), timeUp{graceTimer}, dies(9)}, 137, "stopped", sigTERM, true},
		"it exits, its survivors are shot": {[]event{targetStarted{pid: 1}, exits(4), timeUp{graceTimer}}, 4, "exited", 0, true},
		"stopped after its end is exited":  {[]event{targetStarted{pid: 1}, exits(4), stop(sigTERM)}, 4, "exited", 0, false},
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
	r, todo := next(r, treeEmptied{})
	started := 0
	for _, a := range todo {
		if _, ok := a.(startCommand); ok {
			started++
		}
	}
	if started != 2 {
		t.Fatalf("%d commands started at once, want 2", started)
	}
	r = tell(r, commandStarted{id: 1, pid: 201}, commandStarted{id: 2, pid: 202}, commandEnded{id: 1, ending: Ending{}})
	if r.Cleanup.Clearing {
		t.Error("what is left is killed while one still runs")
	}
	if r = tell(r, commandEnded{id: 2, ending: Ending{}}); !r.Cleanup.Clearing {
		t.Error("what is left is not killed after the last one")
	}
	if r = tell(r, treeEmptied{}); r.State != Done {
		t.Errorf("state %v, want done", r.State)
	}
}

func TestACommandThatNeverStartsIsGivenUp(t *testing.T) {
	r := at(Cleaning)
	r.Cleanup.Stack = r.Cleanup.Update(2, func(c *cleanup.Entry) { c.PID = 0 })
	r = tell(r, commandFailed{id: 2, transient: true}, commandTimer{2, limitTimer})
	c, _ := r.Cleanup.Get(2)
	if c.Progress != cleanup.Ended || !c.Outcome.Failed() || !c.TimedOut {
		t.Errorf("it is %+v", c)
	}
}

func TestWithoutCleanupCommandsTheRunIsDone(t *testing.T) {
	r := at(Sweeping)
	r.Cleanup.Stack = cleanup.Stack{}
	if r = tell(r, treeEmptied{}); r.State != Done {
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
