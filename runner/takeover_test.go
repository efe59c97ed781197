package runner

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// runIn returns a run in a state. It has no cleanup commands.
func runIn(s machine.State) Run {
	r := newRun("id", Config{Command: []string{"target"}})
	r.Run = machineIn(s)
	r.Cleanup.Commands = cleanup.Commands{}
	r.Config.Policy = r.Policy
	return r
}

// takeOver takes over a run after graceful was killed. The guard has started the target, unless the script changes
// that.
func takeOver(t *testing.T, r Run, script func(*watchedSystem)) (Run, *watchedSystem, *memory) {
	t.Helper()
	begin := func(s *watchedSystem) { s.byGuard = map[int]int{0: targetPID}; script(s) }
	return perform(t, r, begin, func(l *loop) {
		l.takeOver()
		l.handle(machine.PeerEnded{})
	})
}

func child(pid int, start uint64) procfs.Process {
	return procfs.Process{Identity: procfs.Identity{PID: pid, Start: start}}
}

// graceful is killed after it has started the target and before it has recorded that. Its successor finds the target.
func TestTakeOver_targetIsNotRecorded(t *testing.T) {
	r := newRun("id", Config{Command: []string{"target"}, Policy: machine.Policy{Grace: time.Second}})
	run, s, runLedger := takeOver(t, r, func(s *watchedSystem) {
		s.living[targetPID], s.living[targetPID+1] = true, true
		s.onTerm[targetPID] = time.Millisecond
		s.onTerm[targetPID+1] = time.Millisecond
	})
	if run.Target.PID != targetPID ||
		run.Target.Ending.Signal != int(unix.SIGTERM) || !run.Stop.PeerEnded {
		t.Errorf("the run is %+v", run)
	}
	if s.target != targetPID {
		t.Errorf("the target of signals is %d", s.target)
	}
	if got := strings.Join(runLedger.events(), ", "); got != "target started, orphaned, sent, target ended, tree emptied" {
		t.Errorf("recorded: %s", got)
	}
}

func TestTakeOver_noTarget(t *testing.T) {
	r := newRun("id", Config{Command: []string{"target"}, OnExit: []cleanup.Command{{Text: "1s", Limit: time.Minute}}})
	run, s, _ := takeOver(t, r, func(s *watchedSystem) { s.byGuard = nil })
	if run.Status() != 125 || run.Reason() != "orphaned" || run.Target.PID != 0 ||
		slices.Contains(s.calls, "start target") {
		t.Errorf("after %q the run is %+v", s.calls, run)
	}
	if e := run.Cleanup.Entries.At(0); e.Progress != cleanup.Ended || e.Outcome.Failed() {
		t.Errorf("the cleanup command: %+v", e)
	}
}

// A target that ended before the takeover did not end because of the takeover.
func TestTakeOver_targetHasEnded(t *testing.T) {
	r := runIn(machine.Running)
	run, _, _ := takeOver(t, r, func(s *watchedSystem) {
		s.living[targetPID] = true
		s.end(machine.Ending{}, targetPID)
	})
	if run.Status() != 0 || run.Stop.PeerEnded {
		t.Errorf("the run is %+v", run)
	}
}

// If the guard no longer has a recorded process, the process was reaped. The successor does not signal its pid, which
// another process may have.
func TestTakeOver_childWasReaped(t *testing.T) {
	r := runIn(machine.Running)
	run, s, _ := takeOver(t, r, func(s *watchedSystem) { s.byGuard = nil })
	if run.Status() != 125 || run.Reason() != "recovered" || slices.Contains(s.calls, "group SIGTERM") {
		t.Errorf("after %q the run is %+v", s.calls, run)
	}
	run, s, _ = takeOver(t, startedRun(900), func(s *watchedSystem) { s.byGuard = nil })
	unknown := strings.Contains(run.Cleanup.Entries.At(2).Outcome.Error, "its exit status is unknown")
	if got := commandsStarted(s); got != "2s 1s" || !unknown {
		t.Errorf("started %s; the run is %+v", got, run)
	}
}

// A target that exits with 0 after a takeover was stopped. So the run has failed.
func TestTakeOver_targetExitsWithZero(t *testing.T) {
	r := runIn(machine.Running)
	run, _, _ := takeOver(t, r, func(s *watchedSystem) {
		s.living[targetPID] = true
		s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
	})
	if run.Status() != 125 {
		t.Errorf("status %d", run.Status())
	}
}

// graceful may have been killed between a recorded decision and its action. Its successor performs the action, perhaps
// a second time.
func TestTakeOver_repeatsActions(t *testing.T) {
	for state, want := range map[machine.State]string{
		machine.Stopping: "group SIGINT, group SIGCONT",
		machine.Killing:  "", // SIGKILL ends the target before any call in s.calls
		machine.Sweeping: "survivors SIGTERM, survivors SIGCONT",
	} {
		r := runIn(state)
		r.Stop.Signal = int(unix.SIGINT)
		r.Target.Ended = state == machine.Sweeping
		run, s, _ := takeOver(t, r, func(s *watchedSystem) {
			s.living[targetPID] = true
			s.at(time.Second, func() { s.end(machine.Ending{Code: 3}, targetPID) })
		})
		if state == machine.Killing && run.Target.Ending.Signal != int(unix.SIGKILL) {
			t.Errorf("the target was not killed: %+v", run)
		}
		if got := strings.Join(s.calls, ", "); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %s, want %s first", state, got, want)
		}
	}
}

// bubble is the time at which a bubble of synctest starts.
var bubble = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// claimedRun returns a run in cleanup. Of its three commands, the one that runs first in the order is claimed. In
// parallel order all of them are claimed.
func claimedRun(order cleanup.Order) Run {
	r := newRun("id", Config{Command: []string{"target"}, OnExit: []cleanup.Command{
		{Text: "1s", Limit: time.Minute}, {Text: "2s", Limit: time.Minute}, {Text: "3s", Limit: time.Minute},
	}, Policy: machine.Policy{Order: order}})
	for _, e := range []machine.Event{
		machine.TargetStarted{PID: targetPID, Start: 5}, machine.TargetEnded{}, machine.TreeEmptied{},
	} {
		r, _ = r.advanced(e, bubble)
	}
	return r
}

// begun returns the run r after its command id was started as the process pid.
func begun(r Run, id, pid int, start uint64) Run {
	r, _ = r.advanced(machine.CommandStarted{ID: id, PID: pid, Start: start}, bubble)
	return r
}

// startedRun returns a run in cleanup in LIFO order. Command 3, the first one to run, is process 300 with the given
// start time.
func startedRun(start uint64) Run { return begun(claimedRun(cleanup.LIFO), 3, 300, start) }

// The guard records which commands it has started. A successor starts only the other ones.
func TestTakeOver_commands(t *testing.T) {
	for name, c := range map[string]struct {
		run     Run
		byGuard map[int]int
		want    string // the commands that start, in order
	}{
		"never started":                   {claimedRun(cleanup.LIFO), nil, "3s 2s 1s"},
		"started, not recorded":           {claimedRun(cleanup.LIFO), map[int]int{3: 300}, "2s 1s"},
		"recorded":                        {startedRun(900), map[int]int{3: 300}, "2s 1s"},
		"the target, which is not reaped": {claimedRun(cleanup.LIFO), map[int]int{0: targetPID}, "3s 2s 1s"},
		"the first of three in parallel":  {begun(claimedRun(cleanup.Parallel), 1, 300, 900), map[int]int{1: 300}, "2s 3s"},
		"two of three, one is not recorded": {begun(claimedRun(cleanup.Parallel), 1, 300, 900),
			map[int]int{1: 300, 2: 301}, "3s"},
	} {
		t.Run(name, func(t *testing.T) {
			run, s, _ := takeOver(t, c.run, func(s *watchedSystem) {
				s.byGuard = c.byGuard
				for _, pid := range c.byGuard {
					s.living[pid] = true
					s.at(time.Second, func() { s.end(machine.Ending{}, pid) })
				}
			})
			if got := commandsStarted(s); got != c.want {
				t.Errorf("started %s, want %s", got, c.want)
			}
			for e := range run.Cleanup.Entries.All() {
				if e.Progress != cleanup.Ended || e.Outcome.Failed() {
					t.Errorf("command %d: %+v", e.ID, e)
				}
			}
		})
	}
}

// The guard records which outputs of a command have no reader. A successor finds these outputs even if the start of the
// command is not recorded in the ledger.
func TestTakeOver_discardedOutputs(t *testing.T) {
	run, _, _ := takeOver(t, claimedRun(cleanup.LIFO), func(s *watchedSystem) {
		s.deadOutputs, s.byGuard = cleanup.Outputs{Stderr: true}, map[int]int{3: 300}
		s.living[300] = true
		s.at(time.Second, func() { s.end(machine.Ending{}, 300) })
	})
	for e := range run.Cleanup.Entries.All() {
		if e.Discarded != (cleanup.Outputs{Stderr: true}) {
			t.Errorf("command %d: %+v", e.ID, e.Discarded)
		}
	}
}

// If the guard of a run is killed, the run continues. If the guard of a successor is killed, the successor, which that
// guard has started, stops the run.
func TestContinueWithoutGuard(t *testing.T) {
	for _, orphaned := range []bool{false, true} {
		run, s, _ := perform(t, runIn(machine.Running), func(s *watchedSystem) {
			s.living[targetPID] = true
			s.orphaned = orphaned
			s.at(time.Second, func() { s.guardLost = true; s.end(machine.Ending{}) })
			s.at(time.Minute, func() { s.end(machine.Ending{Code: 3}, targetPID) })
		}, func(*loop) {})
		if want := orphaned; run.Stop.Recovered != want || (run.Target.Ending.Code == 3) == want {
			t.Errorf("orphaned %t: after %q the run is %+v", orphaned, s.calls, run)
		}
	}
}

func commandsStarted(s *watchedSystem) string {
	var begun []string
	for _, did := range s.trace {
		if _, what, ok := strings.Cut(did, " start "); ok {
			begun = append(begun, what)
		}
	}
	return strings.Join(begun, " ")
}
