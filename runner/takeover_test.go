package runner

import (
	"slices"
	"strings"
	"testing"
	"time"

	"graceful/cleanup"
	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/procfs"

	"golang.org/x/sys/unix"
)

// runIn returns a run in a state. It has no cleanup commands.
func runIn(s machine.State) Run {
	r := newRun("id", Config{Command: []string{"target"}})
	r.Run = machineIn(s)
	r.Cleanup.Stack = cleanup.Stack{}
	r.Config.Policy = r.Policy
	return r
}

// takeOver takes over a run whose supervisor was killed.
func takeOver(
	t *testing.T, r Run, claimTimes map[int]time.Duration, script func(*watchedSystem),
) (Run, *watchedSystem, *memory) {
	t.Helper()
	begin := func(s *watchedSystem) { s.kids = []procfs.Process{child(targetPID, 0)}; script(s) }
	return perform(t, r, begin, func(l *loop) {
		l.takeOver(remembered{Replayed: journal.Replayed{Claimed: claimTimes}})
		l.handle(machine.PeerEnded{})
	})
}

func child(pid int, start uint64) procfs.Process {
	return procfs.Process{Identity: procfs.Identity{PID: pid, Start: start}}
}

// A supervisor may be killed after it has started the target, and before it has recorded that.
func TestTakeOver_targetIsNotRecorded(t *testing.T) {
	r := newRun("id", Config{Command: []string{"target"}, Policy: machine.Policy{Grace: time.Second}})
	run, s, runLedger := takeOver(t, r, nil, func(s *watchedSystem) {
		s.living[targetPID], s.living[targetPID+1] = true, true
		s.kids = []procfs.Process{child(targetPID+1, 7), child(targetPID, 5)} // an orphan, and the target
		s.onTerm[targetPID] = time.Millisecond
		s.onTerm[targetPID+1] = time.Millisecond
	})
	if run.Target.PID != targetPID || run.Target.Start != 5 ||
		run.Target.Ending.Signal != int(unix.SIGTERM) || !run.Stop.PeerEnded {
		t.Errorf("it came to %+v", run)
	}
	if s.target != targetPID {
		t.Errorf("signals were for the group of %d", s.target)
	}
	if got := strings.Join(runLedger.events(), ", "); got != "target started, orphaned, target ended, tree emptied" {
		t.Errorf("recorded: %s", got)
	}
}

func TestTakeOver_noTarget(t *testing.T) {
	r := newRun("id", Config{Command: []string{"target"}, OnExit: []cleanup.Command{{Text: "1s", Limit: time.Minute}}})
	run, s, _ := takeOver(t, r, nil, func(s *watchedSystem) { s.kids = nil })
	if run.Status() != 125 || run.Reason() != "orphaned" || run.Target.PID != 0 ||
		slices.Contains(s.calls, "start target") {
		t.Errorf("after %q it came to %+v", s.calls, run)
	}
	if e := run.Cleanup.Entries[0]; e.Progress != cleanup.Ended || e.Outcome.Failed() {
		t.Errorf("the cleanup command: %+v", e)
	}
}

// A target that ended before the takeover did not end because of it.
func TestTakeOver_targetHasEnded(t *testing.T) {
	r := runIn(machine.Running)
	run, _, _ := takeOver(t, r, nil, func(s *watchedSystem) {
		s.living[targetPID] = true
		s.end(machine.Ending{}, targetPID)
	})
	if run.Status() != 0 || run.Stop.PeerEnded {
		t.Errorf("it came to %+v", run)
	}
}

// A recorded process that is not a child any more was reaped. Another process may have its pid.
func TestTakeOver_childWasReaped(t *testing.T) {
	r := runIn(machine.Running)
	run, s, _ := takeOver(t, r, nil, func(s *watchedSystem) { s.kids = nil })
	if run.Status() != 125 || run.Reason() != "recovered" || slices.Contains(s.calls, "group SIGTERM") {
		t.Errorf("after %q it came to %+v", s.calls, run)
	}
	run, s, _ = takeOver(t, startedRun(900), nil, func(s *watchedSystem) { s.kids = nil })
	unknown := strings.Contains(run.Cleanup.Entries[2].Outcome.Error, "nobody knows how")
	if got := commandsStarted(s); got != "2s 1s" || !unknown {
		t.Errorf("%s were started, and it came to %+v", got, run)
	}
}

// A child whose start time is unknown is identified by its pid.
func TestTakeOver_startTimeIsUnknown(t *testing.T) {
	for _, start := range []struct{ then, now uint64 }{{0, 5}, {5, 0}, {0, 0}} {
		r := runIn(machine.Running)
		r.Target.Start = start.then
		run, _, _ := takeOver(t, r, nil, func(s *watchedSystem) {
			s.kids = []procfs.Process{child(targetPID, start.now)}
			s.living[targetPID] = true
			s.onTerm[targetPID] = time.Millisecond
		})
		if !run.Stop.PeerEnded || run.Stop.Recovered || run.Target.Ending.Signal != int(unix.SIGTERM) {
			t.Errorf("%+v: it came to %+v", start, run)
		}
	}
}

// A target that exits with 0 after a takeover was stopped. So the run has failed.
func TestTakeOver_isNoSuccess(t *testing.T) {
	r := runIn(machine.Running)
	run, _, _ := takeOver(t, r, nil, func(s *watchedSystem) {
		s.living[targetPID] = true
		s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
	})
	if run.Status() != 125 {
		t.Errorf("status %d", run.Status())
	}
}

// An action that was decided on may not have been performed. It is performed, perhaps for the second time.
func TestTakeOver_repeatsActions(t *testing.T) {
	for state, want := range map[machine.State]string{
		machine.Stopping: "group SIGINT, group SIGCONT",
		machine.Killing:  "", // the target ends before that
		machine.Sweeping: "survivors SIGTERM, survivors SIGCONT",
	} {
		r := runIn(state)
		r.Stop.Signal = int(unix.SIGINT)
		r.Target.Ended = state == machine.Sweeping
		run, s, _ := takeOver(t, r, nil, func(s *watchedSystem) {
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

// bubble is the time at which a bubble of synctest begins.
var bubble = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// claimedRun returns a run in cleanup. The first of its three commands is claimed; in parallel, all are.
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

// begun returns a run in which a command has been started.
func begun(r Run, id, pid int, start uint64) Run {
	r, _ = r.advanced(machine.CommandStarted{ID: id, PID: pid, Start: start}, bubble)
	return r
}

// startedRun returns a run in cleanup. The first of its three commands runs as process 300.
func startedRun(start uint64) Run { return begun(claimedRun(cleanup.LIFO), 3, 300, start) }

func TestAdoptCommands(t *testing.T) {
	const tick = time.Second / 100
	started := func(r Run, id, pid int) Run { return begun(r, id, pid, 900) }
	quick := claimedRun(cleanup.LIFO)
	quick.Target.Start = 999
	for _, c := range []struct {
		name  string
		run   Run
		kids  []procfs.Process
		other map[int]int // the command of each process, where it is known
		want  string      // the commands that start, in order
	}{
		{"never started", claimedRun(cleanup.LIFO), nil, nil, "3s 2s 1s"},
		{"started, not recorded", claimedRun(cleanup.LIFO), []procfs.Process{child(300, 1000)}, nil, "2s 1s"},
		{"started in the tick of its claim", claimedRun(cleanup.LIFO), []procfs.Process{child(300, 999)}, nil, "2s 1s"},
		{"the target, which is not reaped", quick, []procfs.Process{child(targetPID, 999)}, nil, "3s 2s 1s"},
		{"started with the pid that the target had", quick, []procfs.Process{child(targetPID, 1000)}, nil, "2s 1s"},
		{"a process that was given up before", claimedRun(cleanup.LIFO), []procfs.Process{child(300, 400)}, nil, "3s 2s 1s"},
		{"recorded", startedRun(900), []procfs.Process{child(300, 900)}, nil, "2s 1s"},
		{"its start time unknown", claimedRun(cleanup.LIFO), []procfs.Process{child(300, 0)}, nil, "2s 1s"},
		{"recorded, its start time unknown", startedRun(0), []procfs.Process{child(300, 900)}, nil, "2s 1s"},
		{"another's start time unknown", begun(claimedRun(cleanup.Parallel), 1, 300, 0),
			[]procfs.Process{child(300, 1000)}, nil, "2s 3s"},
		{"what it has started itself", started(claimedRun(cleanup.Parallel), 1, 300),
			[]procfs.Process{child(300, 900), child(301, 1000)}, map[int]int{301: 1}, "2s 3s"},
		{"the second of three in parallel", started(claimedRun(cleanup.Parallel), 1, 300),
			[]procfs.Process{child(300, 900), child(301, 1000), child(302, 1000)}, map[int]int{301: 1}, "3s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			claim := 1000*tick - tick/2 // somewhere in tick 999
			run, s, _ := takeOver(t, c.run, map[int]time.Duration{1: claim, 2: claim, 3: claim}, func(s *watchedSystem) {
				s.kids, s.other = c.kids, c.other
				for _, p := range c.kids {
					pid := p.PID
					if p.Start > 0 && p.Start < 500 { // it cannot be killed, and is not a member
						continue
					}
					s.living[pid] = true
					s.at(time.Second, func() { s.end(machine.Ending{}, pid) })
				}
			})
			if got := commandsStarted(s); got != c.want {
				t.Errorf("started %s, want %s", got, c.want)
			}
			for _, e := range run.Cleanup.Entries {
				if e.Progress != cleanup.Ended || e.Outcome.Failed() {
					t.Errorf("command %d: %+v", e.ID, e)
				}
			}
		})
	}
}

func commandsStarted(s *watchedSystem) string {
	var begun []string
	for _, did := range s.did {
		if _, what, ok := strings.Cut(did, " start "); ok {
			begun = append(begun, what)
		}
	}
	return strings.Join(begun, " ")
}
