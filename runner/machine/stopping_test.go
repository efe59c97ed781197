package machine

import (
	"testing"
	"time"

	"graceful/cleanup"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// asked is what a run is asked for.
type asked struct {
	Policy
	OnExit, OnStop []cleanup.Command
}

func (a asked) run() Run { return New(a.Policy, a.OnExit, a.OnStop) }

// with is at for a run that is asked for more.
func with(s State, ask func(*asked), change ...func(*Run)) Run {
	return at(s, append([]func(*Run){func(r *Run) {
		config := asked{Policy: r.Policy}
		ask(&config)
		r.Policy = config.Policy
		for _, c := range config.OnStop {
			r.Cleanup.Stack = r.Cleanup.Push(cleanup.AtStop, c)
		}
	}}, change...)...)
}

func phase(p Phase) func(*Run) {
	return func(r *Run) { r.Stop.Phase, r.Stop.Step, r.Stop.Held = p, 0, []int{r.Stop.Signal} }
}

// notified is in the middle of the first on-stop command, which has id 3.
func notified(r *Run) {
	phase(Notifying)(r)
	r.Cleanup.Stack, _ = r.Cleanup.Claim(cleanup.AtStop)
	r.Cleanup.Stack = r.Cleanup.Update(3, func(c *cleanup.Entry) { c.PID = 300 })
}

func once(r *Run) { r.Stop.Count = 1 }

// What each flag about a stop makes of the rows.
func TestEveryRowOfAStop(t *testing.T) {
	tell := func(c *asked) {
		c.OnStop = []cleanup.Command{{Text: "s1", Limit: 5 * time.Second}, {Text: "s2", Limit: 5 * time.Second}}
	}
	drain := func(c *asked) { c.Drain = 3 * time.Second }
	both := func(c *asked) { tell(c); drain(c) }
	deadline := func(c *asked) { // less 60 s of cleanup and 1 s
		tell(c)
		c.Deadline = 100 * time.Second
		c.OnExit = []cleanup.Command{{Limit: 30 * time.Second}, {Limit: 30 * time.Second}}
	}
	schedule := func(c *asked) {
		c.Schedule = []Step{{sigINT, time.Second}, {NoSignal, 2 * time.Second}, {0, 3 * time.Second}}
	}
	rewrite := func(c *asked) { c.Rewrite = map[int]int{SigTERM: 3, sigHUP: 0, sigTSTP: sigUSR1} }
	target := func(c *asked) { c.ForwardTo = ForwardToTarget }
	repeat := func(c *asked) { c.KillOnRepeat = true }
	limit := func(c *asked) { c.Timeout = time.Minute }
	wait := func(c *asked) { c.Survivors = WaitSurvivors }
	keep := func(c *asked) { c.Survivors = KeepSurvivors }
	step := func(n int) func(*Run) { return func(r *Run) { r.Stop.Step = n } }
	first := startTimer{Timer{LimitTimer, 3}, 5 * time.Second}
	second := startTimer{Timer{LimitTimer, 4}, 5 * time.Second}
	exit := startTimer{Timer{LimitTimer, 2}, 30 * time.Second}
	after := func(d time.Duration) Action { return startTimer{grace, d} }
	ended := TargetEnded{Ending: Ending{Code: 7}, After: time.Minute}
	kill := []Action{KillTree{}}

	for name, row := range map[string]struct {
		from Run
		on   Event
		to   State
		do   []Action
	}{
		"on-stop: it begins a stop":                     {with(Running, both), stop(SigTERM), Stopping, []Action{first, StartCommand{3}}},
		"on-stop: the next one":                         {with(Stopping, both, notified), CommandEnded{ID: 3}, Stopping, []Action{KillCommand{3}, second, StartCommand{4}}},
		"on-stop: a missing one keeps none":             {with(Stopping, both, notified, notStarted(3)), CommandFailed{3, "none", false}, Stopping, []Action{second, StartCommand{4}}},
		"on-stop: over its limit":                       {with(Stopping, both, notified), CommandTimer{3, LimitTimer}, Stopping, []Action{TerminateCommand{3}, startTimer{Timer{KillTimer, 3}, CommandKillAfter}}},
		"on-stop: a stop signal waits for it":           {with(Stopping, both, notified), stop(sigINT), Stopping, nil},
		"on-stop: any other does not":                   {with(Stopping, both, notified), pass(sigHUP), Stopping, []Action{ForwardSignal{sigHUP, false, false}}},
		"on-stop: the target's end waits for it":        {with(Stopping, both, notified), ended, Stopping, nil},
		"on-stop: then nothing is told any more":        {with(Stopping, both, notified, func(r *Run) { r.Target.Ended = true }), CommandEnded{ID: 3}, Sweeping, []Action{KillCommand{3}, SignalSurvivors{SigTERM, true, false}, after(10 * time.Second)}},
		"on-stop: a late end changes nothing":           {with(Killing, both, notified), CommandEnded{ID: 3}, Killing, []Action{KillCommand{3}}},
		"drain: when there are none":                    {with(Running, drain), stop(SigTERM), Stopping, []Action{startTimer{Timer{Name: DrainTimer}, 3 * time.Second}}},
		"drain: then the signal":                        {with(Stopping, drain, phase(Draining)), TimeUp{DrainTimer}, Stopping, []Action{ForwardSignal{SigTERM, false, true}, after(10 * time.Second)}},
		"drain: a stop signal cuts it, both are sent":   {with(Stopping, drain, phase(Draining)), stop(sigINT), Stopping, []Action{ForwardSignal{SigTERM, false, true}, ForwardSignal{sigINT, false, true}, after(10 * time.Second)}},
		"drain: the same one is sent once":              {with(Stopping, drain, phase(Draining)), stop(SigTERM), Stopping, []Action{ForwardSignal{SigTERM, false, true}, after(10 * time.Second)}},
		"drain: the target's end ends it":               {with(Stopping, drain, phase(Draining)), ended, Sweeping, []Action{SignalSurvivors{SigTERM, true, false}, after(10 * time.Second)}},
		"schedule: its signal, not the one that came":   {with(Running, schedule), stop(SigTERM), Stopping, []Action{ForwardSignal{sigINT, false, true}, after(time.Second)}},
		"schedule: a wait":                              {with(Stopping, schedule), TimeUp{GraceTimer}, Stopping, []Action{after(2 * time.Second)}},
		"schedule: the signal that came":                {with(Stopping, schedule, step(2)), TimeUp{GraceTimer}, Stopping, []Action{ForwardSignal{SigTERM, false, true}, after(3 * time.Second)}},
		"schedule: SIGKILL in the end":                  {with(Stopping, schedule, step(3)), TimeUp{GraceTimer}, Killing, kill},
		"schedule: goes on for survivors":               {with(Sweeping, schedule, step(2)), TimeUp{GraceTimer}, Sweeping, []Action{SignalSurvivors{SigTERM, true, false}, after(3 * time.Second)}},
		"schedule: of survivors alone":                  {with(Running, schedule), ended, Sweeping, []Action{SignalSurvivors{sigINT, true, false}, after(time.Second)}},
		"rewrite: a stop signal":                        {with(Running, rewrite), stop(SigTERM), Stopping, []Action{ForwardSignal{3, false, true}, after(10 * time.Second)}},
		"rewrite: dropped":                              {with(Running, rewrite), pass(sigHUP), Running, nil},
		"rewrite: no job control":                       {with(Running, rewrite), job(sigTSTP), Running, []Action{ForwardSignal{sigUSR1, false, false}}},
		"rewrite: again":                                {with(Stopping, rewrite), stop(SigTERM), Stopping, []Action{ForwardSignal{3, false, true}}},
		"rewrite: for survivors":                        {with(Stopping, rewrite), ended, Sweeping, []Action{SignalSurvivors{3, true, true}}},
		"rewrite: not of the schedule":                  {with(Running, func(c *asked) { rewrite(c); c.Schedule = []Step{{SigTERM, time.Second}} }), stop(sigINT), Stopping, []Action{ForwardSignal{SigTERM, false, true}, after(time.Second)}},
		"forward-to target":                             {with(Running, target), stop(SigTERM), Stopping, []Action{ForwardSignal{SigTERM, true, true}, after(10 * time.Second)}},
		"forward-to target: job control is the group's": {with(Running, target), job(sigTSTP), Running, []Action{ForwardSignal{sigTSTP, false, false}, Suspend{}}},
		"kill-on-repeat: the second":                    {with(Stopping, repeat), stop(sigINT), Killing, kill},
		"kill-on-repeat: during an on-stop command":     {with(Stopping, func(c *asked) { repeat(c); tell(c) }, notified), stop(SigTERM), Killing, []Action{KillCommand{3}, startTimer{Timer{AbandonTimer, 3}, AbandonAfter}, KillTree{}}},
		"kill-on-repeat: survivors":                     {with(Sweeping, repeat, once), stop(SigTERM), Sweeping, kill},
		"kill-on-repeat: not the first":                 {with(Sweeping, repeat), stop(SigTERM), Sweeping, []Action{SignalSurvivors{SigTERM, true, false}}},
		"kill-on-repeat: any other signal is none":      {with(Stopping, repeat), pass(sigHUP), Stopping, []Action{ForwardSignal{sigHUP, false, false}}},
		"kill-on-repeat: a cleanup command":             {with(Cleaning, repeat, once), stop(SigTERM), Cleaning, []Action{TerminateCommand{2}, startTimer{Timer{KillTimer, 2}, CommandKillAfter}}},
		"kill-on-repeat: and again":                     {with(Cleaning, repeat, once, entry(2, func(c *cleanup.Entry) { c.Cut = true })), stop(SigTERM), Cleaning, []Action{KillCommand{2}, startTimer{Timer{AbandonTimer, 2}, AbandonAfter}}},
		"kill-on-repeat: then nothing helps any more":   {with(Cleaning, repeat, once, entry(2, func(c *cleanup.Entry) { c.Cut, c.Killed = true, true })), stop(SigTERM), Cleaning, nil},
		"kill-on-repeat: the first during cleanup":      {with(Cleaning, repeat), stop(SigTERM), Cleaning, nil},
		"without it a stop signal kills nobody":         {with(Cleaning, func(*asked) {}, once), stop(SigTERM), Cleaning, nil},
		"timeout: runs from the start":                  {with(Starting, limit), TargetStarted{PID: 100}, Running, []Action{startTimer{Timer{Name: TimeoutTimer}, time.Minute}}},
		"timeout: stops":                                {with(Running, limit), TimeUp{TimeoutTimer}, Stopping, []Action{ForwardSignal{SigTERM, false, true}, after(10 * time.Second)}},
		"timeout: means nothing to a stop":              {with(Stopping, limit), TimeUp{TimeoutTimer}, Stopping, nil},
		"deadline: runs from the stop":                  {with(Running, deadline), stop(SigTERM), Stopping, []Action{startTimer{Timer{Name: DeadlineTimer}, 39 * time.Second}, startTimer{Timer{LimitTimer, 3}, 3750 * time.Millisecond}, StartCommand{3}}},
		"deadline: from a stop of survivors":            {with(Sweeping, deadline), stop(SigTERM), Sweeping, []Action{startTimer{Timer{Name: DeadlineTimer}, 39 * time.Second}, SignalSurvivors{SigTERM, true, false}}},
		"deadline: not from the second":                 {with(Stopping, deadline, func(r *Run) { r.Stop.Bounded = true }), stop(SigTERM), Stopping, []Action{ForwardSignal{SigTERM, false, true}}},
		"deadline: kills":                               {with(Stopping, deadline), TimeUp{DeadlineTimer}, Killing, kill},
		"deadline: kills an on-stop command":            {with(Stopping, deadline, notified), TimeUp{DeadlineTimer}, Killing, []Action{KillCommand{3}, startTimer{Timer{AbandonTimer, 3}, time.Second / 2}, KillTree{}}},
		"deadline: cuts a drain":                        {with(Stopping, deadline, phase(Draining)), TimeUp{DeadlineTimer}, Killing, kill},
		"deadline: kills survivors":                     {with(Sweeping, deadline), TimeUp{DeadlineTimer}, Sweeping, kill},
		"deadline: cuts no cleanup":                     {with(Cleaning, deadline), TimeUp{DeadlineTimer}, Cleaning, nil},
		"wait: nobody is told":                          {with(Running, wait), ended, Sweeping, nil},
		"wait: a stop's grace goes on":                  {with(Stopping, wait), ended, Sweeping, nil},
		"wait: a stop signal stops them":                {with(Sweeping, wait, step(0)), stop(sigINT), Sweeping, []Action{SignalSurvivors{sigINT, true, false}, after(10 * time.Second)}},
		"wait: any other signal is for them":            {with(Sweeping, wait, step(0)), pass(sigHUP), Sweeping, []Action{SignalSurvivors{sigHUP, false, false}}},
		"wait: the end of the front stops them":         {with(Sweeping, wait, step(0)), Orphaned{}, Sweeping, []Action{SignalSurvivors{SigTERM, true, false}, after(10 * time.Second)}},
		"wait: not for those who are to be killed":      {with(Killing, wait), ended, Sweeping, kill},
		"wait: recover does not":                        {with(Running, wait), Recovered{}, Sweeping, []Action{SignalSurvivors{SigTERM, true, false}, after(10 * time.Second)}},
		"keep: cleaning begins at once":                 {with(Running, keep), ended, Cleaning, []Action{LeaveSurvivors{}, exit, StartCommand{2}}},
		"keep: also in a stop":                          {with(Stopping, keep), ended, Cleaning, []Action{LeaveSurvivors{}, exit, StartCommand{2}}},
		"keep: not those who are to be killed":          {with(Killing, keep), ended, Sweeping, kill},
		"keep: recover does not":                        {with(Running, keep), Recovered{}, Sweeping, []Action{SignalSurvivors{SigTERM, true, false}, after(10 * time.Second)}},
		"orphaned: a stop like any other":               {with(Running, both), Orphaned{}, Stopping, []Action{first, StartCommand{3}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, do := Next(row.from, row.on)
			if got.State != row.to {
				t.Errorf("state %v, want %v", got.State, row.to)
			}
			var todo []Action
			for _, a := range do {
				if _, off := a.(stopTimer); !off {
					todo = append(todo, a)
				}
			}
			if diff := cmp.Diff(row.do, todo, actions, cmp.AllowUnexported(LeaveSurvivors{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAStopSignalDuringTheCommandsCutsTheDrainThatIsToCome(t *testing.T) {
	r := with(Running, func(c *asked) { c.Drain = time.Hour; c.OnStop = []cleanup.Command{{Text: "s", Limit: time.Second}} })
	r = tell(r, stop(sigINT), CommandStarted{ID: 3, PID: 300}, stop(SigTERM))
	r, todo := Next(r, CommandEnded{ID: 3})
	want := []Action{ForwardSignal{sigINT, false, true}, ForwardSignal{SigTERM, false, true}}
	if diff := cmp.Diff(want, todo[len(todo)-3:len(todo)-1], actions); diff != "" || r.Stop.Phase != Signalling {
		t.Errorf("phase %v, actions (-want +got):\n%s", r.Stop.Phase, diff)
	}
}

// In the order of the contract: the target's, 124, 125, and what is remapped last.
func TestWhatComesOfARunIsItsExitStatus(t *testing.T) {
	failed := entry(2, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, cleanup.Outcome{Code: 1} })
	ends := func(e Ending) func(*Run) { return func(r *Run) { r.Target.Ending = e } }
	cleanupCounts := func(c *asked) { c.FailOnCleanupError = true }
	remap := func(c *asked) { c.Remap, c.Reraise = map[int]int{143: 0, 0: 9, 125: 7, 124: 1}, true }
	for name, c := range map[string]struct {
		run    Run
		status int
		raise  int
	}{
		"a failed command does not count":         {with(Done, func(*asked) {}, failed), 0, 0},
		"but where it is to":                      {with(Done, cleanupCounts, failed), 125, 0},
		"one over its limit has failed":           {with(Done, cleanupCounts, entry(1, func(c *cleanup.Entry) { c.Progress, c.TimedOut = cleanup.Ended, true })), 125, 0},
		"an on-stop command is no cleanup":        {with(Done, func(c *asked) { cleanupCounts(c); c.OnStop = []cleanup.Command{{}} }, entry(3, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, cleanup.Outcome{Code: 1} })), 0, 0},
		"the target's failure counts for more":    {with(Done, cleanupCounts, failed, ends(Ending{Code: 3})), 3, 0},
		"remapped":                                {with(Done, remap, ends(Ending{})), 9, 0},
		"remapped, and no signal":                 {with(Done, remap, ends(Ending{Signal: SigTERM})), 0, 0},
		"success by remapping, and a failed one":  {with(Done, func(c *asked) { cleanupCounts(c); remap(c) }, failed, ends(Ending{Signal: SigTERM})), 7, 0},
		"the time limit":                          {with(Done, func(c *asked) { c.Reraise = true }, func(r *Run) { r.Stop.TimedOut = true }, ends(Ending{Signal: SigTERM})), 124, 0},
		"the time limit, remapped":                {with(Done, remap, func(r *Run) { r.Stop.TimedOut = true }), 1, 0},
		"raised":                                  {with(Done, func(c *asked) { c.Reraise = true }, ends(Ending{Signal: SigTERM})), 143, SigTERM},
		"an exit like a signal's is not raised":   {with(Done, func(c *asked) { c.Reraise = true }, ends(Ending{Code: 143})), 143, 0},
		"stopped because we failed, and it is ok": {with(Done, func(*asked) {}, func(r *Run) { r.Stop.Orphaned = true }), 125, 0},
	} {
		if c.run.Status() != c.status || c.run.Raise() != c.raise {
			t.Errorf("%s: status %d, signal %d; want %d, %d", name, c.run.Status(), c.run.Raise(), c.status, c.raise)
		}
	}
}
