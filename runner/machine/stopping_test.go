package machine

import (
	"testing"
	"time"

	"graceful/cleanup"

	"github.com/google/go-cmp/cmp"
)

// options is a policy and the commands of a run.
type options struct {
	Policy
	OnExit, OnStop []cleanup.Command
}

// with returns runIn with other options. On-stop commands have the ids from 3 on.
func with(s State, set func(*options), change ...func(*Run)) Run {
	return runIn(s, append([]func(*Run){func(r *Run) {
		o := options{Policy: r.Policy}
		set(&o)
		r.Policy = o.Policy
		for _, c := range o.OnStop {
			r.Cleanup.Stack = r.Cleanup.Push(cleanup.AtStop, c)
		}
	}}, change...)...)
}

// inPhase returns a change of a run after which it is in a phase before the first step.
func inPhase(p Phase) func(*Run) {
	return func(r *Run) { r.Stop.Phase, r.Stop.Step, r.Stop.Held = p, 0, []int{r.Stop.Signal} }
}

// onStopRuns changes a run to one whose first on-stop command runs.
func onStopRuns(r *Run) {
	inPhase(Notifying)(r)
	r.Cleanup.Stack, _ = r.Cleanup.Claim(cleanup.AtStop)
	entry(3, func(c *cleanup.Entry) { c.PID = 300 })(r)
}

// stoppedOnce changes a run to one that has received a stop signal.
func stoppedOnce(r *Run) { r.Stop.Count = 1 }

// targetHasEnded changes a run to one whose target has ended.
func targetHasEnded(r *Run) { r.Target.Ended = true }

// Each row is an event under an option, and the actions that follow, without those that stop timers.
func TestNext_stopOptions(t *testing.T) {
	onStop := func(o *options) {
		o.OnStop = []cleanup.Command{{Text: "s1", Limit: 5 * time.Second}, {Text: "s2", Limit: 5 * time.Second}}
	}
	drain := func(o *options) { o.Drain = 3 * time.Second }
	both := func(o *options) { onStop(o); drain(o) }
	deadline := func(o *options) { // StoppingTime is 39 s: 60 s are for cleanup commands, and 1 s is the margin
		onStop(o)
		o.Deadline = 100 * time.Second
	}
	schedule := func(o *options) {
		o.Schedule = []Step{{sigINT, time.Second}, {NoSignal, 2 * time.Second}, {0, 3 * time.Second}}
	}
	rewrite := func(o *options) { o.Rewrite = map[int]int{SigTERM: 3, sigHUP: 0, sigTSTP: sigUSR1} }
	rewriteAndSchedule := func(o *options) { rewrite(o); o.Schedule = []Step{{SigTERM, time.Second}} }
	target := func(o *options) { o.ForwardTo = ForwardToTarget }
	repeat := func(o *options) { o.KillOnRepeat = true }
	repeatAndOnStop := func(o *options) { repeat(o); onStop(o) }
	timeout := func(o *options) { o.Timeout = time.Minute }
	wait := func(o *options) { o.Survivors = WaitSurvivors }
	keep := func(o *options) { o.Survivors = KeepSurvivors }
	none := func(*options) {}

	step := func(n int) func(*Run) { return func(r *Run) { r.Stop.Step = n } }
	cut := entry(2, func(c *cleanup.Entry) { c.Cut = true })
	killed := entry(2, func(c *cleanup.Entry) { c.Cut, c.Killed = true, true })

	first := start(LimitTimer, 3, 5*time.Second)
	second := start(LimitTimer, 4, 5*time.Second)
	exit := start(LimitTimer, 2, 30*time.Second)
	grace := func(d time.Duration) Action { return start(GraceTimer, 0, d) }
	runDeadline := start(DeadlineTimer, 0, 39*time.Second)
	ended := TargetEnded{Ending: Ending{Code: 7}, After: time.Minute}
	kill := do(KillTree{})
	stopSurvivors := do(sendSurvivors(SigTERM), grace(10*time.Second))
	nextOnStop := do(KillCommand{3}, second, StartCommand{4})

	for name, row := range map[string]transition{
		"on-stop: first":    {with(Running, both), stopSignal(SigTERM), Stopping, do(first, StartCommand{3})},
		"on-stop: orphaned": {with(Running, both), Orphaned{}, Stopping, do(first, StartCommand{3})},
		"on-stop: next":     {with(Stopping, both, onStopRuns), CommandEnded{ID: 3}, Stopping, nextOnStop},
		"on-stop: one is missing": {with(Stopping, both, onStopRuns, notStarted(3)), CommandFailed{3, "none", false},
			Stopping, do(second, StartCommand{4})},
		"on-stop: over its limit": {with(Stopping, both, onStopRuns), CommandTimer{3, LimitTimer}, Stopping,
			do(TerminateCommand{3}, start(KillTimer, 3, CommandKillAfter))},
		"on-stop: a stop signal is held": {with(Stopping, both, onStopRuns), stopSignal(sigINT), Stopping, nil},
		"on-stop: another signal is forwarded": {with(Stopping, both, onStopRuns), otherSignal(sigHUP), Stopping,
			do(sendOther(sigHUP))},
		"on-stop: the target ends": {with(Stopping, both, onStopRuns), ended, Stopping, nil},
		"on-stop: no next after the target's end": {with(Stopping, both, onStopRuns, targetHasEnded), CommandEnded{ID: 3},
			Sweeping, do(KillCommand{3}, sendSurvivors(SigTERM), grace(10*time.Second))},
		"on-stop: one ends late": {with(Killing, both, onStopRuns), CommandEnded{ID: 3}, Killing, do(KillCommand{3})},

		"drain: first": {with(Running, drain), stopSignal(SigTERM), Stopping, do(start(DrainTimer, 0, 3*time.Second))},
		"drain: then the signal": {with(Stopping, drain, inPhase(Draining)), TimeUp{DrainTimer}, Stopping,
			do(sendStop(SigTERM), grace(10*time.Second))},
		"drain: a stop signal ends it, and both are forwarded": {with(Stopping, drain, inPhase(Draining)),
			stopSignal(sigINT), Stopping, do(sendStop(SigTERM), sendStop(sigINT), grace(10*time.Second))},
		"drain: the same stop signal is forwarded once": {with(Stopping, drain, inPhase(Draining)),
			stopSignal(SigTERM), Stopping, do(sendStop(SigTERM), grace(10*time.Second))},
		"drain: the target ends": {with(Stopping, drain, inPhase(Draining)), ended, Sweeping, stopSurvivors},

		"schedule: its signal, not the one received": {with(Running, schedule), stopSignal(SigTERM), Stopping,
			do(sendStop(sigINT), grace(time.Second))},
		"schedule: a wait": {with(Stopping, schedule), TimeUp{GraceTimer}, Stopping, do(grace(2 * time.Second))},
		"schedule: the signal received": {with(Stopping, schedule, step(2)), TimeUp{GraceTimer}, Stopping,
			do(sendStop(SigTERM), grace(3*time.Second))},
		"schedule: SIGKILL after the last step": {with(Stopping, schedule, step(3)), TimeUp{GraceTimer}, Killing, kill},
		"schedule: continues for survivors": {with(Sweeping, schedule, step(2)), TimeUp{GraceTimer}, Sweeping,
			do(sendSurvivors(SigTERM), grace(3*time.Second))},
		"schedule: survivors alone": {with(Running, schedule), ended, Sweeping,
			do(sendSurvivors(sigINT), grace(time.Second))},

		"rewrite: a stop signal": {with(Running, rewrite), stopSignal(SigTERM), Stopping,
			do(sendStop(3), grace(10*time.Second))},
		"rewrite: to 0": {with(Running, rewrite), otherSignal(sigHUP), Running, nil},
		"rewrite: TSTP suspends no more": {with(Running, rewrite), suspendSignal(sigTSTP), Running,
			do(sendOther(sigUSR1))},
		"rewrite: a repeated stop signal": {with(Stopping, rewrite), stopSignal(SigTERM), Stopping, do(sendStop(3))},
		"rewrite: for survivors": {with(Stopping, rewrite), ended, Sweeping,
			do(SignalSurvivors{Signal: 3, Resume: true, Unasked: true})},
		"rewrite: not the schedule": {with(Running, rewriteAndSchedule), stopSignal(sigINT), Stopping,
			do(sendStop(SigTERM), grace(time.Second))},

		"forward-to target: a stop signal": {with(Running, target), stopSignal(SigTERM), Stopping,
			do(ForwardSignal{SigTERM, true, true}, grace(10*time.Second))},
		"forward-to target: TSTP is for the group": {with(Running, target), suspendSignal(sigTSTP), Running,
			do(sendOther(sigTSTP), Suspend{})},

		"kill-on-repeat: the second": {with(Stopping, repeat), stopSignal(sigINT), Killing, kill},
		"kill-on-repeat: an on-stop command": {with(Stopping, repeatAndOnStop, onStopRuns), stopSignal(SigTERM), Killing,
			do(KillCommand{3}, start(AbandonTimer, 3, AbandonAfter), KillTree{})},
		"kill-on-repeat: survivors": {with(Sweeping, repeat, stoppedOnce), stopSignal(SigTERM), Sweeping, kill},
		"kill-on-repeat: survivors, the first": {with(Sweeping, repeat), stopSignal(SigTERM), Sweeping,
			do(sendSurvivors(SigTERM))},
		"kill-on-repeat: another signal": {with(Stopping, repeat), otherSignal(sigHUP), Stopping, do(sendOther(sigHUP))},
		"kill-on-repeat: a cleanup command": {with(Cleaning, repeat, stoppedOnce), stopSignal(SigTERM), Cleaning,
			do(TerminateCommand{2}, start(KillTimer, 2, CommandKillAfter))},
		"kill-on-repeat: a cleanup command, again": {with(Cleaning, repeat, stoppedOnce, cut), stopSignal(SigTERM),
			Cleaning, do(KillCommand{2}, start(AbandonTimer, 2, AbandonAfter))},
		"kill-on-repeat: a killed cleanup command": {with(Cleaning, repeat, stoppedOnce, killed), stopSignal(SigTERM),
			Cleaning, nil},
		"kill-on-repeat: a cleanup command, first": {with(Cleaning, repeat), stopSignal(SigTERM), Cleaning, nil},
		"kill-on-repeat: off":                      {with(Cleaning, none, stoppedOnce), stopSignal(SigTERM), Cleaning, nil},

		"timeout: runs from the start": {with(Starting, timeout), TargetStarted{PID: 100}, Running,
			do(start(TimeoutTimer, 0, time.Minute))},
		"timeout: stops": {with(Running, timeout), TimeUp{TimeoutTimer}, Stopping,
			do(sendStop(SigTERM), grace(10*time.Second))},
		"timeout: during a stop": {with(Stopping, timeout), TimeUp{TimeoutTimer}, Stopping, nil},

		"deadline: runs from the stop": {with(Running, deadline), stopSignal(SigTERM), Stopping,
			do(runDeadline, start(LimitTimer, 3, 3750*time.Millisecond), StartCommand{3})},
		"deadline: runs from a stop of survivors": {with(Sweeping, deadline), stopSignal(SigTERM), Sweeping,
			do(runDeadline, sendSurvivors(SigTERM))},
		"deadline: runs once": {with(Stopping, deadline, func(r *Run) { r.Stop.Bounded = true }), stopSignal(SigTERM),
			Stopping, do(sendStop(SigTERM))},
		"deadline: kills": {with(Stopping, deadline), TimeUp{DeadlineTimer}, Killing, kill},
		"deadline: kills an on-stop command": {with(Stopping, deadline, onStopRuns), TimeUp{DeadlineTimer}, Killing,
			do(KillCommand{3}, start(AbandonTimer, 3, time.Second/2), KillTree{})},
		"deadline: ends a drain":    {with(Stopping, deadline, inPhase(Draining)), TimeUp{DeadlineTimer}, Killing, kill},
		"deadline: kills survivors": {with(Sweeping, deadline), TimeUp{DeadlineTimer}, Sweeping, kill},
		"deadline: ends no cleanup": {with(Cleaning, deadline), TimeUp{DeadlineTimer}, Cleaning, nil},

		"wait: the target ends":     {with(Running, wait), ended, Sweeping, nil},
		"wait: the grace continues": {with(Stopping, wait), ended, Sweeping, nil},
		"wait: a stop signal": {with(Sweeping, wait, step(0)), stopSignal(sigINT), Sweeping,
			do(sendSurvivors(sigINT), grace(10*time.Second))},
		"wait: another signal": {with(Sweeping, wait, step(0)), otherSignal(sigHUP), Sweeping,
			do(SignalSurvivors{Signal: sigHUP})},
		"wait: orphaned":          {with(Sweeping, wait, step(0)), Orphaned{}, Sweeping, stopSurvivors},
		"wait: not after SIGKILL": {with(Killing, wait), ended, Sweeping, kill},
		"wait: not in recovery":   {with(Running, wait), Recovered{}, Sweeping, stopSurvivors},

		"keep: the target ends":   {with(Running, keep), ended, Cleaning, do(LeaveSurvivors{}, exit, StartCommand{2})},
		"keep: in a stop":         {with(Stopping, keep), ended, Cleaning, do(LeaveSurvivors{}, exit, StartCommand{2})},
		"keep: not after SIGKILL": {with(Killing, keep), ended, Sweeping, kill},
		"keep: not in recovery":   {with(Running, keep), Recovered{}, Sweeping, stopSurvivors},
	} {
		t.Run(name, func(t *testing.T) {
			row.check(t, func(a Action) bool { _, stops := a.(stopTimer); return stops })
		})
	}
}

// A second stop signal while on-stop commands run leaves out the drain.
func TestNext_repeatedStopSkipsDrain(t *testing.T) {
	r := with(Running, func(o *options) {
		o.Drain = time.Hour
		o.OnStop = []cleanup.Command{{Text: "s", Limit: time.Second}}
	})
	r = after(r, stopSignal(sigINT), CommandStarted{ID: 3, PID: 300}, stopSignal(SigTERM))
	r, todo := Next(r, CommandEnded{ID: 3})
	want := do(sendStop(sigINT), sendStop(SigTERM))
	if diff := cmp.Diff(want, todo[len(todo)-3:len(todo)-1], compareActions); diff != "" || r.Stop.Phase != Signalling {
		t.Errorf("phase %v, actions (-want +got):\n%s", r.Stop.Phase, diff)
	}
}

// The target's status counts first, then 124 and 125. Remapping comes last.
func TestRun_statusAndRaise(t *testing.T) {
	failed := entry(2, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, cleanup.Outcome{Code: 1} })
	overLimit := entry(1, func(c *cleanup.Entry) { c.Progress, c.TimedOut = cleanup.Ended, true })
	onStopFailed := entry(3, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, cleanup.Outcome{Code: 1} })
	ends := func(e Ending) func(*Run) { return func(r *Run) { r.Target.Ending = e } }
	terminated := ends(Ending{Signal: SigTERM})
	timedOut := func(r *Run) { r.Stop.TimedOut = true }

	none := func(*options) {}
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
		"a failed command":                     {with(Done, none, failed), 0, 0},
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
		"graceful's death stops a good target": {with(Done, none, func(r *Run) { r.Stop.Orphaned = true }), 125, 0},
	} {
		if c.run.Status() != c.status || c.run.Raise() != c.raise {
			t.Errorf("%s: status %d, signal %d; want %d, %d", name, c.run.Status(), c.run.Raise(), c.status, c.raise)
		}
	}
}
