package machine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"graceful/cleanup"
	"graceful/forward"
)

const (
	sigHUP  = 1
	sigINT  = 2
	sigUSR1 = 10
	sigTSTP = 20
)

// compareActions makes go-cmp compare actions, including timers. A nil list equals an empty one.
var compareActions = cmp.Options{cmp.AllowUnexported(startTimer{}, stopTimer{}), cmpopts.EquateEmpty()}

// runIn returns a run in a state, with cleanup commands 1 and 2 and the given changes. From Stopping to Sweeping, the
// first step has begun. In Cleaning command 2 runs.
func runIn(s State, change ...func(*Run)) Run {
	r := Run{State: s, Target: Target{PID: 100}, Policy: Policy{Grace: 10 * time.Second}}
	for _, text := range []string{"first", "second"} {
		r.Cleanup.Commands = r.Cleanup.Add(cleanup.AtExit, cleanup.Command{Text: text, Limit: 30 * time.Second})
	}
	switch s {
	case Starting:
		r.Target.PID = 0
	case Stopping:
		r.Stop.Signal, r.Stop.Count, r.Stop.Phase, r.Stop.Step = SigTERM, 1, PhaseSignals, 1
	case Killing:
		r.Stop.Signal, r.Stop.Count, r.Stop.Phase, r.Stop.Step, r.Stop.Escalated = SigTERM, 1, PhaseSignals, 1, true
	case Sweeping:
		r.Target.Ended, r.Stop.Phase, r.Stop.Step = true, PhaseSignals, 1
	case Cleaning:
		r.Target.Ended = true
		r.Cleanup.Commands, _ = r.Cleanup.Claim(cleanup.AtExit)
		r.Cleanup.Commands = r.Cleanup.Update(2, func(c *cleanup.Entry) { c.PID = 200 })
	case Done:
		r.Target.Ended = true
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

// entry returns a change of a run that applies a function to the entry of the command id.
func entry(id int, change func(*cleanup.Entry)) func(*Run) {
	return func(r *Run) { r.Cleanup.Commands = r.Cleanup.Update(id, change) }
}

// notStarted returns a change of a run: the command id has no pid.
func notStarted(id int) func(*Run) { return entry(id, func(c *cleanup.Entry) { c.PID = 0 }) }

// escalated changes a run: SIGKILL was sent.
func escalated(r *Run) { r.Stop.Escalated = true }

// clearing changes a run: graceful kills the processes that command 2 has left.
func clearing(r *Run) {
	entry(2, func(c *cleanup.Entry) { c.Progress = cleanup.Ended })(r)
	r.Cleanup.Clearing = true
}

func stopSignal(sig int) Event    { return Signalled{Signal: sig, Meaning: forward.Stop} }
func otherSignal(sig int) Event   { return Signalled{Signal: sig, Meaning: forward.Pass} }
func suspendSignal(sig int) Event { return Signalled{Signal: sig, Meaning: forward.Suspend} }

// do returns its arguments, as the list of actions of a transition.
func do(actions ...Action) []Action { return actions }

// sendStop returns the action that sends a stop signal to the target's group.
func sendStop(sig int) Action { return ForwardSignal{Signal: sig, Resume: true} }

// askSurvivors returns the action that sends SIGTERM to survivors that have received no stop signal.
func askSurvivors() Action { return SignalSurvivors{Signal: SigTERM, Resume: true, Rest: true} }

// sendOther returns the action that forwards a signal that does not stop the run.
func sendOther(sig int) Action { return ForwardSignal{Signal: sig} }

// start returns the action that starts a timer of a command. If id is 0, the timer belongs to the run.
func start(name TimerName, id int, after time.Duration) Action {
	return timer(name, id, after)
}

// after returns a run after events, and ignores their actions.
func after(r Run, events ...Event) Run {
	for _, e := range events {
		r, _ = Next(r, e)
	}
	return r
}

// transition is a row of a test: a run, an event, the next state, and the actions.
type transition struct {
	from Run
	on   Event
	to   State
	do   []Action
}

// check fails the test unless the machine makes the transition. It omits the actions for which ignore returns true, and
// the start of the same-stop timer, which TestNext_sameStop checks.
func (row transition) check(t *testing.T, ignore func(Action) bool) {
	t.Helper()
	got, actions := Next(row.from, row.on)
	if got.State != row.to {
		t.Errorf("state %v, want %v", got.State, row.to)
	}
	if diff := cmp.Diff(row.do, slices.DeleteFunc(actions, func(a Action) bool {
		return a == start(SameStopTimer, 0, sameStopWindow) || ignore(a)
	}), compareActions); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
}

// With default options, each event leads to the listed state, and to exactly the listed actions.
func TestNext_defaultPolicy(t *testing.T) {
	ended := TargetEnded{Ending: Ending{Code: 7}, After: time.Minute}
	begun := stopTimers(0, TimeoutTimer)
	swept := stopTimers(0, TimeoutTimer, DrainTimer)
	killed := stopTimers(0, GraceTimer, DrainTimer)
	cleaned := append(stopTimers(0, GraceTimer, TimeoutTimer, DeadlineTimer),
		start(LimitTimer, 2, 30*time.Second), StartCommand{2})
	finished := append(stopTimers(2, RetryTimer, LimitTimer, KillTimer, AbandonTimer), KillCommand{2}, KillTree{})
	grace := start(GraceTimer, 0, 10*time.Second)

	for name, row := range map[string]transition{
		"starting: the target runs":  {runIn(Starting), TargetStarted{PID: 100}, Running, nil},
		"starting: the target fails": {runIn(Starting), TargetFailed{Status: 127}, Cleaning, cleaned},
		"running: a stop signal is followed by CONT and the grace": {runIn(Running), stopSignal(SigTERM), Stopping,
			append(begun, sendStop(SigTERM), grace)},
		"running: another signal": {runIn(Running), otherSignal(sigUSR1), Running, do(sendOther(sigUSR1))},
		"running: TSTP suspends the group, then graceful": {runIn(Running), suspendSignal(sigTSTP), Running,
			do(sendOther(sigTSTP), Suspend{})},
		"running: CHLD is ignored": {runIn(Running), Signalled{Signal: 17, Meaning: forward.Ours}, Running, nil},
		"running: the target ends": {runIn(Running), ended, Sweeping,
			append(swept, askSurvivors(), grace)},
		"running: no grace runs":        {runIn(Running), TimeUp{GraceTimer}, Running, nil},
		"stopping: another stop signal": {runIn(Stopping), stopSignal(sigINT), Stopping, do(sendStop(sigINT))},
		"stopping: another signal":      {runIn(Stopping), otherSignal(sigHUP), Stopping, do(sendOther(sigHUP))},
		"stopping: TSTP": {runIn(Stopping), suspendSignal(sigTSTP), Stopping,
			do(sendOther(sigTSTP), Suspend{})},
		"stopping: the grace ends": {runIn(Stopping), TimeUp{GraceTimer}, Killing, append(killed, KillTree{})},
		"stopping: survivors have what is left of the grace": {runIn(Stopping), ended, Sweeping,
			append(swept, askSurvivors())},
		"stopping: the start of the target fails": {runIn(Stopping), TargetFailed{Status: 126}, Sweeping,
			append(swept, askSurvivors())},
		"killing: a stop signal":   {runIn(Killing), stopSignal(SigTERM), Killing, nil},
		"killing: the target ends": {runIn(Killing), ended, Sweeping, append(swept, KillTree{})},
		"sweeping: a stop signal":  {runIn(Sweeping), stopSignal(sigINT), Sweeping, do(askSurvivors())},
		"sweeping: another signal": {runIn(Sweeping), otherSignal(sigUSR1), Sweeping,
			do(SignalSurvivors{Signal: sigUSR1})},
		"sweeping: TSTP is ignored":        {runIn(Sweeping), suspendSignal(sigTSTP), Sweeping, nil},
		"sweeping: the grace ends":         {runIn(Sweeping), TimeUp{GraceTimer}, Sweeping, append(killed, KillTree{})},
		"sweeping: the grace ends once":    {runIn(Sweeping, escalated), TimeUp{GraceTimer}, Sweeping, nil},
		"sweeping: a signal after SIGKILL": {runIn(Sweeping, escalated), stopSignal(SigTERM), Sweeping, nil},
		"sweeping: the tree is empty":      {runIn(Sweeping), TreeEmptied{}, Cleaning, cleaned},
		"cleaning: a stop signal":          {runIn(Cleaning), stopSignal(SigTERM), Cleaning, nil},
		"cleaning: another signal":         {runIn(Cleaning), otherSignal(sigHUP), Cleaning, nil},
		"cleaning: TSTP is ignored":        {runIn(Cleaning), suspendSignal(sigTSTP), Cleaning, nil},
		"cleaning: the target ends once":   {runIn(Cleaning), ended, Cleaning, nil},
		"cleaning: a command ends":         {runIn(Cleaning), CommandEnded{ID: 2, Ending: Ending{}}, Cleaning, finished},
		"cleaning: the next command": {runIn(Cleaning, clearing), TreeEmptied{}, Cleaning,
			do(start(LimitTimer, 1, 30*time.Second), StartCommand{1})},
		"cleaning: no next command while one runs":      {runIn(Cleaning), TreeEmptied{}, Cleaning, nil},
		"cleaning: a command fails, but is not claimed": {runIn(Cleaning), CommandFailed{ID: 1, Err: "none"}, Cleaning, nil},
		"cleaning: a resource is missing": {runIn(Cleaning, notStarted(2)), CommandFailed{ID: 2, Transient: true}, Cleaning,
			do(start(RetryTimer, 2, RetryAfter))},
		"cleaning: the start of a command fails": {runIn(Cleaning), CommandFailed{ID: 2, Err: "none"}, Cleaning, finished},
		"cleaning: a command is tried again": {runIn(Cleaning, notStarted(2)), CommandTimer{2, RetryTimer}, Cleaning,
			do(StartCommand{2})},
		"cleaning: a command that runs is not tried again": {runIn(Cleaning), CommandTimer{2, RetryTimer}, Cleaning, nil},
		"cleaning: the limit ends": {runIn(Cleaning), CommandTimer{2, LimitTimer}, Cleaning,
			do(TerminateCommand{2}, start(KillTimer, 2, CommandKillAfter))},
		"cleaning: a command survives SIGTERM": {runIn(Cleaning), CommandTimer{2, KillTimer}, Cleaning,
			do(KillCommand{2}, start(AbandonTimer, 2, AbandonAfter))},
		"cleaning: a command survives SIGKILL":   {runIn(Cleaning), CommandTimer{2, AbandonTimer}, Cleaning, finished},
		"cleaning: a timer of a pending command": {runIn(Cleaning), CommandTimer{1, LimitTimer}, Cleaning, nil},
		"cleaning: an unknown command ends":      {runIn(Cleaning), CommandEnded{ID: 9, Ending: Ending{}}, Cleaning, nil},
		"done: a stop signal":                    {runIn(Done), stopSignal(SigTERM), Done, nil},
	} {
		t.Run(name, func(t *testing.T) { row.check(t, func(Action) bool { return false }) })
	}
}

func TestRun_statusAndReason(t *testing.T) {
	exits := func(code int) Event { return TargetEnded{Ending: Ending{Code: code}, After: time.Second} }
	dies := func(sig int) Event { return TargetEnded{Ending: Ending{Signal: sig}, After: time.Second} }
	started := TargetStarted{PID: 1}
	for name, c := range map[string]struct {
		events  []Event
		status  int
		reason  string
		stopped int  // Stop.Signal
		killed  bool // Stop.Escalated
	}{
		"it exits":                {[]Event{started, exits(3)}, 3, "exited", 0, false},
		"a signal ends it":        {[]Event{started, dies(11)}, 139, "signaled", 0, false},
		"it cannot be started":    {[]Event{TargetFailed{Status: 126}}, 126, "start-failed", 0, false},
		"it is stopped and exits": {[]Event{started, stopSignal(sigINT), exits(0)}, 0, "stopped", sigINT, false},
		"the first signal counts": {[]Event{started, stopSignal(sigINT), stopSignal(SigTERM), exits(0)},
			0, "stopped", sigINT, false},
		"it is stopped and killed": {[]Event{started, stopSignal(SigTERM), TimeUp{GraceTimer}, dies(9)},
			137, "stopped", SigTERM, true},
		"survivors are killed":     {[]Event{started, exits(4), TimeUp{GraceTimer}}, 4, "exited", 0, true},
		"it exits before the stop": {[]Event{started, exits(4), stopSignal(SigTERM)}, 4, "exited", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := after(runIn(Starting), c.events...)
			if r.Status() != c.status || r.Reason() != c.reason || r.Stop.Signal != c.stopped || r.Stop.Escalated != c.killed {
				t.Errorf("status %d, reason %s, stop signal %d, escalated %t; want %d, %s, %d, %t", r.Status(), r.Reason(),
					r.Stop.Signal, r.Stop.Escalated, c.status, c.reason, c.stopped, c.killed)
			}
		})
	}
}

// In parallel order all cleanup commands start at once. Only after the end of the last one, graceful kills their
// remaining processes. Then the run is done.
func TestNext_parallelCommands(t *testing.T) {
	r := runIn(Sweeping)
	r.Cleanup.Order = cleanup.Parallel
	r, actions := Next(r, TreeEmptied{})
	started := 0
	for _, a := range actions {
		if _, ok := a.(StartCommand); ok {
			started++
		}
	}
	if started != 2 {
		t.Fatalf("%d commands started at once, want 2", started)
	}
	r = after(r, CommandStarted{ID: 1, PID: 201}, CommandStarted{ID: 2, PID: 202}, CommandEnded{ID: 1, Ending: Ending{}})
	if r.Cleanup.Clearing {
		t.Error("the tree is killed while a command runs")
	}
	if r = after(r, CommandEnded{ID: 2, Ending: Ending{}}); !r.Cleanup.Clearing {
		t.Error("the tree is not killed after the last command")
	}
	if r = after(r, TreeEmptied{}); r.State != Done {
		t.Errorf("state %v, want done", r.State)
	}
}

func TestNext_commandNeverStarts(t *testing.T) {
	r := after(runIn(Cleaning, notStarted(2)), CommandFailed{ID: 2, Transient: true}, CommandTimer{2, LimitTimer})
	c, _ := r.Cleanup.Get(2)
	if c.Progress != cleanup.Ended || !c.Outcome.Failed() || !c.TimedOut {
		t.Errorf("the command is %+v", c)
	}
}

// The limit timer of a command starts again when the command has started, so that a slow start does not reduce the time
// of the command.
func TestNext_limitBeginsWithTheStart(t *testing.T) {
	_, actions := Next(runIn(Cleaning, notStarted(2)), CommandStarted{ID: 2, PID: 200})
	if len(actions) != 1 || actions[0].(startTimer).timer != (Timer{Name: LimitTimer, ID: 2}) {
		t.Errorf("the actions are %+v", actions)
	}
}

func TestNext_noCleanupCommands(t *testing.T) {
	r := runIn(Sweeping)
	r.Cleanup.Commands = cleanup.Commands{}
	if r = after(r, TreeEmptied{}); r.State != Done {
		t.Errorf("state %v, want done", r.State)
	}
}

// The states have the same names and the same order as in the manual.
func TestState_names(t *testing.T) {
	var names []string
	for s := Starting; s <= Done; s++ {
		names = append(names, s.String())
	}
	got := strings.Join(names, " → ")
	if got != "starting → running → stopping → killing → sweeping → cleaning → done" {
		t.Error(got)
	}
}
