package machine

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"graceful/cleanup"
)

// options contains a policy and the commands of a run.
type options struct {
	Policy
	OnExit, OnStop []cleanup.Command
}

// with returns a run like that of runIn, but with the options that set has changed. It adds the on-stop commands, whose
// ids begin at 3, and ignores OnExit.
func with(s State, set func(*options), change ...func(*Run)) Run {
	return runIn(s, append([]func(*Run){func(r *Run) {
		o := options{Policy: r.Policy}
		set(&o)
		r.Policy = o.Policy
		for _, c := range o.OnStop {
			r.Cleanup.Commands = r.Cleanup.Add(cleanup.AtStop, c)
		}
	}}, change...)...)
}

// inPhase returns a change of a run: the run is in a phase, no step has begun, and the first stop signal is held.
func inPhase(p Phase) func(*Run) {
	return func(r *Run) { r.Stop.Phase, r.Stop.Step, r.Stop.Held = p, 0, []int{r.Stop.Signal} }
}

// onStopRuns changes a run: its first on-stop command runs.
func onStopRuns(r *Run) {
	inPhase(PhaseOnStop)(r)
	r.Cleanup.Commands, _ = r.Cleanup.Claim(cleanup.AtStop)
	entry(3, func(c *cleanup.Entry) { c.PID = 300 })(r)
}

// stoppedOnce changes a run: it has received a stop signal.
func stoppedOnce(r *Run) { r.Stop.Count = 1 }

// bounded changes a run: its deadline runs.
func bounded(r *Run) { r.Stop.DeadlineStarted = true }

// targetHasEnded changes a run: its target has ended.
func targetHasEnded(r *Run) { r.Target.Ended = true }

// The tests below share these options, changes of a run, events and actions.
var (
	onStop = func(o *options) {
		o.OnStop = []cleanup.Command{{Text: "s1", Limit: 5 * time.Second}, {Text: "s2", Limit: 5 * time.Second}}
	}
	drain       = func(o *options) { o.Drain = 3 * time.Second }
	onStopDrain = func(o *options) { onStop(o); drain(o) }
	deadline    = func(o *options) { // StoppingTime is 39 s: cleanup commands get 60 s, and OwnTime is 1 s
		onStop(o)
		o.Deadline = 100 * time.Second
	}
	schedule = func(o *options) {
		o.Schedule = []Step{{sigINT, time.Second}, {NoSignal, 2 * time.Second}, {0, 3 * time.Second}}
	}
	rewrite               = func(o *options) { o.Rewrite = map[int]int{SigTERM: 3, sigHUP: 0, sigTSTP: sigUSR1} }
	rewriteAndSchedule    = func(o *options) { rewrite(o); o.Schedule = []Step{{SigTERM, time.Second}} }
	toTarget              = func(o *options) { o.ForwardTo = ForwardToTarget }
	killOnRepeat          = func(o *options) { o.OnRepeat = RepeatKill }
	killOnRepeatAndOnStop = func(o *options) { killOnRepeat(o); onStop(o) }
	timeLimit             = func(o *options) { o.Timeout = time.Minute }
	waitForSurvivors      = func(o *options) { o.Survivors = WaitSurvivors }
	keepSurvivors         = func(o *options) { o.Survivors = KeepSurvivors }
	noOptions             = func(*options) {}

	atStep   = func(n int) func(*Run) { return func(r *Run) { r.Stop.Step = n } }
	cutOnce  = entry(2, func(c *cleanup.Entry) { c.Cut = true })
	cutTwice = entry(2, func(c *cleanup.Entry) { c.Cut, c.Killed = true, true })

	startFirst    = start(LimitTimer, 3, 5*time.Second)
	startSecond   = start(LimitTimer, 4, 5*time.Second)
	startExit     = start(LimitTimer, 2, 30*time.Second)
	startGrace    = func(d time.Duration) Action { return start(GraceTimer, 0, d) }
	startDeadline = start(DeadlineTimer, 0, 39*time.Second)
	targetExits   = TargetEnded{Ending: Ending{Code: 7}, After: time.Minute}
	killTree      = do(KillTree{})
	stopSurvivors = do(askSurvivors(), startGrace(10*time.Second))
	nextOnStop    = do(KillCommand{3}, startSecond, StartCommand{4})
)

// checkTransitions fails the test unless the machine makes the transitions. rows maps names of subtests to transitions.
// checkTransitions ignores actions that stop timers.
func checkTransitions(t *testing.T, rows map[string]transition) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			row.check(t, func(a Action) bool { _, stops := a.(stopTimer); return stops })
		})
	}
}

func TestNext_onStop(t *testing.T) {
	checkTransitions(t, map[string]transition{
		"first":    {with(Running, onStopDrain), stopSignal(SigTERM), Stopping, do(startFirst, StartCommand{3})},
		"orphaned": {with(Running, onStopDrain), PeerEnded{}, Stopping, do(startFirst, StartCommand{3})},
		"next":     {with(Stopping, onStopDrain, onStopRuns), CommandEnded{ID: 3}, Stopping, nextOnStop},
		"a command is missing": {with(Stopping, onStopDrain, onStopRuns, notStarted(3)), CommandFailed{ID: 3, Err: "none"},
			Stopping, do(startSecond, StartCommand{4})},
		"over its limit": {with(Stopping, onStopDrain, onStopRuns), CommandTimer{3, LimitTimer}, Stopping,
			do(TerminateCommand{3}, start(KillTimer, 3, CommandKillAfter))},
		"a stop signal is held": {with(Stopping, onStopDrain, onStopRuns), stopSignal(sigINT), Stopping, nil},
		"another signal is forwarded": {with(Stopping, onStopDrain, onStopRuns), otherSignal(sigHUP), Stopping,
			do(sendOther(sigHUP))},
		"the target ends": {with(Stopping, onStopDrain, onStopRuns), targetExits, Stopping, nil},
		"no next command after the target's end": {with(Stopping, onStopDrain, onStopRuns, targetHasEnded),
			CommandEnded{ID: 3}, Sweeping, do(KillCommand{3}, askSurvivors(), startGrace(10*time.Second))},
		"a command ends late": {with(Killing, onStopDrain, onStopRuns), CommandEnded{ID: 3}, Killing, do(KillCommand{3})},
	})
}

func TestNext_drain(t *testing.T) {
	checkTransitions(t, map[string]transition{
		"first": {with(Running, drain), stopSignal(SigTERM), Stopping, do(start(DrainTimer, 0, 3*time.Second))},
		"then the signal": {with(Stopping, drain, inPhase(PhaseDrain)), TimeUp{DrainTimer}, Stopping,
			do(sendStop(SigTERM), startGrace(10*time.Second))},
		"a stop signal ends it, and both are forwarded": {with(Stopping, drain, inPhase(PhaseDrain)),
			stopSignal(sigINT), Stopping, do(sendStop(SigTERM), sendStop(sigINT), startGrace(10*time.Second))},
		"the same stop signal is forwarded once": {with(Stopping, drain, inPhase(PhaseDrain)),
			stopSignal(SigTERM), Stopping, do(sendStop(SigTERM), startGrace(10*time.Second))},
		"the target ends": {with(Stopping, drain, inPhase(PhaseDrain)), targetExits, Sweeping, stopSurvivors},
	})
}

func TestNext_schedule(t *testing.T) {
	checkTransitions(t, map[string]transition{
		"its signal, not the one received": {with(Running, schedule), stopSignal(SigTERM), Stopping,
			do(sendStop(sigINT), startGrace(time.Second))},
		"a wait": {with(Stopping, schedule), TimeUp{GraceTimer}, Stopping, do(startGrace(2 * time.Second))},
		"the signal received": {with(Stopping, schedule, atStep(2)), TimeUp{GraceTimer}, Stopping,
			do(sendStop(SigTERM), startGrace(3*time.Second))},
		"SIGKILL after the last step": {with(Stopping, schedule, atStep(3)), TimeUp{GraceTimer}, Killing, killTree},
		"continues for survivors": {with(Sweeping, schedule, atStep(2)), TimeUp{GraceTimer}, Sweeping,
			do(askSurvivors(), startGrace(3*time.Second))},
		"survivors alone": {with(Running, schedule), targetExits, Sweeping,
			do(askSurvivors(), startGrace(time.Second))},
	})
}

func TestNext_rewrite(t *testing.T) {
	checkTransitions(t, map[string]transition{
		"a stop signal": {with(Running, rewrite), stopSignal(SigTERM), Stopping,
			do(sendStop(3), startGrace(10*time.Second))},
		"to 0": {with(Running, rewrite), otherSignal(sigHUP), Running, nil},
		"TSTP suspends no more": {with(Running, rewrite), suspendSignal(sigTSTP), Running,
			do(sendOther(sigUSR1))},
		"a repeated stop signal": {with(Stopping, rewrite), stopSignal(SigTERM), Stopping, do(sendStop(3))},
		"for survivors": {with(Stopping, rewrite), targetExits, Sweeping,
			do(askSurvivors())},
		"not the schedule": {with(Running, rewriteAndSchedule), stopSignal(sigINT), Stopping,
			do(sendStop(SigTERM), startGrace(time.Second))},
	})
}

func TestNext_forwardTo(t *testing.T) {
	checkTransitions(t, map[string]transition{
		"a stop signal": {with(Running, toTarget), stopSignal(SigTERM), Stopping,
			do(ForwardSignal{SigTERM, true, true}, startGrace(10*time.Second))},
		"TSTP is for the group": {with(Running, toTarget), suspendSignal(sigTSTP), Running,
			do(sendOther(sigTSTP), Suspend{})},
	})
}

func TestNext_killOnRepeat(t *testing.T) {
	checkTransitions(t, map[string]transition{
		"the second": {with(Stopping, killOnRepeat), stopSignal(sigINT), Killing, killTree},
		"an on-stop command": {with(Stopping, killOnRepeatAndOnStop, onStopRuns), stopSignal(SigTERM), Killing,
			do(KillCommand{3}, start(AbandonTimer, 3, AbandonAfter), KillTree{})},
		"an on-stop command that is not started": {with(Stopping, killOnRepeatAndOnStop, onStopRuns, notStarted(3)),
			stopSignal(SigTERM), Killing, killTree},
		"survivors": {with(Sweeping, killOnRepeat, stoppedOnce), stopSignal(SigTERM), Sweeping, killTree},
		"survivors, the first": {with(Sweeping, killOnRepeat), stopSignal(SigTERM), Sweeping,
			do(askSurvivors())},
		"another signal": {with(Stopping, killOnRepeat), otherSignal(sigHUP), Stopping, do(sendOther(sigHUP))},
		"a cleanup command": {with(Cleaning, killOnRepeat, stoppedOnce), stopSignal(SigTERM), Cleaning,
			do(TerminateCommand{2}, start(KillTimer, 2, CommandKillAfter))},
		"a cleanup command, again": {with(Cleaning, killOnRepeat, stoppedOnce, cutOnce), stopSignal(SigTERM),
			Cleaning, do(KillCommand{2}, start(AbandonTimer, 2, AbandonAfter))},
		"a killed cleanup command": {with(Cleaning, killOnRepeat, stoppedOnce, cutTwice), stopSignal(SigTERM),
			Cleaning, nil},
		"a cleanup command, first": {with(Cleaning, killOnRepeat), stopSignal(SigTERM), Cleaning, nil},
		"off":                      {with(Cleaning, noOptions, stoppedOnce), stopSignal(SigTERM), Cleaning, nil},
	})
}

func TestNext_timeout(t *testing.T) {
	checkTransitions(t, map[string]transition{
		"runs from the start": {with(Starting, timeLimit), TargetStarted{PID: 100}, Running,
			do(start(TimeoutTimer, 0, time.Minute))},
		"stops": {with(Running, timeLimit), TimeUp{TimeoutTimer}, Stopping,
			do(sendStop(SigTERM), startGrace(10*time.Second))},
		"during a stop": {with(Stopping, timeLimit), TimeUp{TimeoutTimer}, Stopping, nil},
	})
}

func TestNext_deadline(t *testing.T) {
	checkTransitions(t, map[string]transition{
		"runs from the stop": {with(Running, deadline), stopSignal(SigTERM), Stopping,
			do(startDeadline, start(LimitTimer, 3, 3750*time.Millisecond), StartCommand{3})},
		"runs from a stop of survivors": {with(Sweeping, deadline), stopSignal(SigTERM), Sweeping,
			do(startDeadline, askSurvivors())},
		"runs once": {with(Stopping, deadline, func(r *Run) { r.Stop.DeadlineStarted = true }), stopSignal(SigTERM),
			Stopping, do(sendStop(SigTERM))},
		"kills": {with(Stopping, deadline), TimeUp{DeadlineTimer}, Killing, killTree},
		"kills an on-stop command": {with(Stopping, deadline, onStopRuns, bounded), TimeUp{DeadlineTimer}, Killing,
			do(KillCommand{3}, start(AbandonTimer, 3, time.Second/2), KillTree{})},
		"kills no on-stop command that is not started": {with(Stopping, deadline, onStopRuns, notStarted(3), bounded),
			TimeUp{DeadlineTimer}, Killing, killTree},
		"ends a drain":    {with(Stopping, deadline, inPhase(PhaseDrain)), TimeUp{DeadlineTimer}, Killing, killTree},
		"kills survivors": {with(Sweeping, deadline), TimeUp{DeadlineTimer}, Sweeping, killTree},
		"ends no cleanup": {with(Cleaning, deadline), TimeUp{DeadlineTimer}, Cleaning, nil},
	})
}

func TestNext_waitForSurvivors(t *testing.T) {
	checkTransitions(t, map[string]transition{
		"the target ends":     {with(Running, waitForSurvivors), targetExits, Sweeping, nil},
		"the grace continues": {with(Stopping, waitForSurvivors), targetExits, Sweeping, nil},
		"a stop signal": {with(Sweeping, waitForSurvivors, atStep(0)), stopSignal(sigINT), Sweeping,
			do(askSurvivors(), startGrace(10*time.Second))},
		"another signal": {with(Sweeping, waitForSurvivors, atStep(0)), otherSignal(sigHUP), Sweeping,
			do(SignalSurvivors{Signal: sigHUP})},
		"orphaned":          {with(Sweeping, waitForSurvivors, atStep(0)), PeerEnded{}, Sweeping, stopSurvivors},
		"not after SIGKILL": {with(Killing, waitForSurvivors), targetExits, Sweeping, killTree},
		"not in recovery":   {with(Running, waitForSurvivors), Recovered{}, Sweeping, stopSurvivors},
	})
}

func TestNext_keepSurvivors(t *testing.T) {
	checkTransitions(t, map[string]transition{
		"the target ends": {with(Running, keepSurvivors), targetExits, Cleaning,
			do(LeaveSurvivors{}, startExit, StartCommand{2})},
		"in a stop": {with(Stopping, keepSurvivors), targetExits, Cleaning,
			do(LeaveSurvivors{}, startExit, StartCommand{2})},
		"after SIGKILL, too": {with(Killing, keepSurvivors), targetExits, Cleaning,
			do(LeaveSurvivors{}, startExit, StartCommand{2})},
		"not in recovery": {with(Running, keepSurvivors), Recovered{}, Sweeping, stopSurvivors},
	})
}

// If a repeated stop signal comes while on-stop commands run, the first step follows them without a drain, and forwards
// both signals.
func TestNext_repeatedStopSkipsDrain(t *testing.T) {
	r := with(Running, func(o *options) {
		o.Drain = time.Hour
		o.OnStop = []cleanup.Command{{Text: "s", Limit: time.Second}}
	})
	r = after(r, stopSignal(sigINT), CommandStarted{ID: 3, PID: 300}, TimeUp{SameStopTimer}, stopSignal(SigTERM))
	r, actions := Next(r, CommandEnded{ID: 3})
	want := do(sendStop(sigINT), sendStop(SigTERM))
	diff := cmp.Diff(want, actions[len(actions)-3:len(actions)-1], compareActions)
	if diff != "" || r.Stop.Phase != PhaseSignals {
		t.Errorf("phase %v, actions (-want +got):\n%s", r.Stop.Phase, diff)
	}
}

// After the time limit the status is 124. A status of 0 becomes 125 after the death of graceful or, with
// FailOnCleanupError, after a failed cleanup command. Remap replaces each of these statuses. RaisedSignal returns a
// signal only if Status is the status of that signal.
func TestRun_statusAndRaise(t *testing.T) {
	failed := entry(2, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, cleanup.Outcome{Code: 1} })
	overLimit := entry(1, func(c *cleanup.Entry) { c.Progress, c.TimedOut = cleanup.Ended, true })
	onStopFailed := entry(3, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, cleanup.Outcome{Code: 1} })
	ends := func(e Ending) func(*Run) { return func(r *Run) { r.Target.Ending = e } }
	terminated := ends(Ending{Signal: SigTERM})
	timedOut := func(r *Run) { r.Stop.TimedOut = true }

	cleanupCounts := func(o *options) { o.FailOnCleanupError = true }
	withOnStop := func(o *options) { cleanupCounts(o); o.OnStop = []cleanup.Command{{}} }
	reraise := func(o *options) { o.Reraise = true }
	remap := func(o *options) { o.Remap, o.Reraise = map[int]int{143: 0, 0: 9, 125: 7, 124: 1}, true }
	both := func(o *options) { cleanupCounts(o); remap(o) }

	for name, c := range map[string]struct {
		run    Run
		status int
		raise  int
	}{
		"a failed command":                     {with(Done, noOptions, failed), 0, 0},
		"a failed command counts":              {with(Done, cleanupCounts, failed), 125, 0},
		"a command over its limit counts":      {with(Done, cleanupCounts, overLimit), 125, 0},
		"an on-stop command does not count":    {with(Done, withOnStop, onStopFailed), 0, 0},
		"the target's failure counts first":    {with(Done, cleanupCounts, failed, ends(Ending{Code: 3})), 3, 0},
		"remapped":                             {with(Done, remap, ends(Ending{})), 9, 0},
		"remapped, and not raised":             {with(Done, remap, terminated), 0, 0},
		"remapped to 0, and a failed command":  {with(Done, both, failed, terminated), 7, 0},
		"the time limit":                       {with(Done, reraise, timedOut, terminated), 124, 0},
		"the time limit, remapped":             {with(Done, remap, timedOut), 1, 0},
		"raised":                               {with(Done, reraise, terminated), 143, SigTERM},
		"an exit with a signal's status":       {with(Done, reraise, ends(Ending{Code: 143})), 143, 0},
		"graceful's death stops a good target": {with(Done, noOptions, func(r *Run) { r.Stop.PeerEnded = true }), 125, 0},
	} {
		if c.run.Status() != c.status || c.run.RaisedSignal() != c.raise {
			t.Errorf("%s: status %d, signal %d; want %d, %d", name, c.run.Status(), c.run.RaisedSignal(), c.status, c.raise)
		}
	}
}
