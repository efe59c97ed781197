package runner

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"graceful/cleanup"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// memory is a ledger that a test reads.
type memory struct{ records []record }

func (m *memory) Append(r any) error { m.records = append(m.records, r.(record)); return nil }

func (m *memory) Reserve(int64) error { return nil }

func (m *memory) events() (events []string) {
	for _, r := range m.records {
		events = append(events, r.Event)
	}
	return events
}

// takeOver lets a loop go on from a run that somebody else has led so far.
func takeOver(t *testing.T, r Run, claimed map[int]time.Duration, script func(*watchedSystem)) (Run, *watchedSystem, *memory) {
	t.Helper()
	var run Run
	var sys *watchedSystem
	book := &memory{}
	synctest.Test(t, func(t *testing.T) {
		s := newWatchedSystem(t)
		s.kids = []tree.Process{child(targetPID, 0)}
		script(s)
		l := loop{run: r, sys: s, log: slog.New(slog.DiscardHandler), signals: s.signals, children: s.nudge, ledger: book, began: time.Now()}
		l.takeOver(remembered{claimed: claimed})
		l.handle(orphaned{})
		run, sys = l.loop(), s
	})
	return run, sys, book
}

func child(pid int, start uint64) tree.Process {
	return tree.Process{Identity: tree.Identity{PID: pid, Start: start}}
}

// A supervisor may be killed at any moment, also after it has started the target and before it has written that down.
func TestATargetThatWasNotWrittenDownIsFound(t *testing.T) {
	r := newRun("id", Config{Command: []string{"target"}, Grace: time.Second})
	run, s, book := takeOver(t, r, nil, func(s *watchedSystem) {
		s.living[targetPID], s.living[targetPID+1] = true, true
		s.kids = []tree.Process{child(targetPID+1, 7), child(targetPID, 5)} // an orphan of the target's, and the target
		s.onTerm[targetPID] = time.Millisecond
		s.onTerm[targetPID+1] = time.Millisecond
	})
	if run.TargetPID != targetPID || run.TargetStart != 5 || run.Ending.Signal != int(unix.SIGTERM) || !run.Orphaned {
		t.Errorf("it came to %+v", run)
	}
	if s.target != targetPID {
		t.Errorf("signals were for the group of %d", s.target)
	}
	if got := strings.Join(book.events(), ", "); got != "target started, orphaned, target ended, tree emptied" {
		t.Errorf("written down: %s", got)
	}
}

func TestWithoutATargetNoneIsStarted(t *testing.T) {
	r := newRun("id", Config{Command: []string{"target"}, OnExit: []cleanup.Command{{Text: "1s", Limit: time.Minute}}})
	run, s, _ := takeOver(t, r, nil, func(s *watchedSystem) { s.kids = nil })
	if run.Status() != 125 || run.Reason() != "orphaned" || run.TargetPID != 0 || slices.Contains(s.calls, "start target") {
		t.Errorf("after %q it came to %+v", s.calls, run)
	}
	if e := run.Cleanup.Entries[0]; e.Progress != cleanup.Ended || e.Outcome.Failed() {
		t.Errorf("the cleanup command: %+v", e)
	}
}

// What ended by itself before we could do anything has not ended because of us.
func TestATargetThatHasSucceededHasSucceeded(t *testing.T) {
	r := at(Running)
	r.TargetPID, r.Cleanup = targetPID, cleanup.Stack{}
	run, _, _ := takeOver(t, r, nil, func(s *watchedSystem) {
		s.living[targetPID] = true
		s.end(Ending{}, targetPID)
	})
	if run.Status() != 0 || run.Orphaned {
		t.Errorf("it came to %+v", run)
	}
}

// Who is not among our children any more has been reaped, and its id may be a stranger's.
func TestWhoHasBeenReapedIsNotWaitedFor(t *testing.T) {
	r := at(Running)
	r.TargetPID, r.Cleanup = targetPID, cleanup.Stack{}
	run, s, _ := takeOver(t, r, nil, func(s *watchedSystem) { s.kids = nil })
	if run.Status() != 125 || run.Reason() != "recovered" || slices.Contains(s.calls, "group SIGTERM") {
		t.Errorf("after %q it came to %+v", s.calls, run)
	}
	r = claimedRun(cleanup.LIFO)
	r, _ = advance(r, commandStarted{3, 300, 900}, bubble)
	run, s, _ = takeOver(t, r, nil, func(s *watchedSystem) { s.kids = nil })
	if got := commandsStarted(s); got != "2s 1s" || !strings.Contains(run.Cleanup.Entries[2].Outcome.Error, "nobody knows how") {
		t.Errorf("%s were started, and it came to %+v", got, run)
	}
}

// Whose start time could not be read, then or now, is known by its pid among our own children.
func TestAChildWhoseStartTimeIsUnknownIsNotTakenForReaped(t *testing.T) {
	for _, start := range []struct{ then, now uint64 }{{0, 5}, {5, 0}, {0, 0}} {
		r := at(Running)
		r.TargetPID, r.TargetStart, r.Cleanup = targetPID, start.then, cleanup.Stack{}
		run, _, _ := takeOver(t, r, nil, func(s *watchedSystem) {
			s.kids = []tree.Process{child(targetPID, start.now)}
			s.living[targetPID] = true
			s.onTerm[targetPID] = time.Millisecond
		})
		if !run.Orphaned || run.Recovered || run.Ending.Signal != int(unix.SIGTERM) {
			t.Errorf("%+v: it came to %+v", start, run)
		}
	}
}

// A target that takes a stop for success has not done what it was started for.
func TestAStopBecauseOfOurFailureIsNoSuccess(t *testing.T) {
	r := at(Running)
	r.TargetPID, r.Cleanup = targetPID, cleanup.Stack{}
	run, _, _ := takeOver(t, r, nil, func(s *watchedSystem) {
		s.living[targetPID] = true
		s.at(time.Second, func() { s.end(Ending{}, targetPID) })
	})
	if run.Status() != 125 {
		t.Errorf("status %d", run.Status())
	}
}

// What was decided on may not have been done: it is done, once more perhaps.
func TestWhatWasDecidedOnIsDone(t *testing.T) {
	for state, want := range map[State]string{
		Stopping: "group SIGINT, group SIGCONT",
		Killing:  "", // it ends before a second is over
		Sweeping: "survivors SIGTERM, survivors SIGCONT",
	} {
		r := at(state)
		r.TargetPID, r.StopSignal, r.Cleanup = targetPID, int(unix.SIGINT), cleanup.Stack{}
		r.Ended = state == Sweeping
		run, s, _ := takeOver(t, r, nil, func(s *watchedSystem) {
			s.living[targetPID] = true
			s.at(time.Second, func() { s.end(Ending{Code: 3}, targetPID) })
		})
		if state == Killing && run.Ending.Signal != int(unix.SIGKILL) {
			t.Errorf("nobody was killed: %+v", run)
		}
		if got := strings.Join(s.calls, ", "); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %s, want %s first", state, got, want)
		}
	}
}

// bubble is when time begins in synctest.
var bubble = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// claimedRun is one that is being cleaned up: the second of three commands is claimed, in parallel all are.
func claimedRun(order cleanup.Order) Run {
	r := newRun("id", Config{Command: []string{"target"}, Order: order, OnExit: []cleanup.Command{
		{Text: "1s", Limit: time.Minute}, {Text: "2s", Limit: time.Minute}, {Text: "3s", Limit: time.Minute},
	}})
	for _, e := range []event{targetStarted{targetPID, 5}, targetEnded{}, treeEmptied{}} {
		r, _ = advance(r, e, bubble)
	}
	return r
}

func TestACommandIsNotStartedTwice(t *testing.T) {
	const tick = time.Second / 100
	begun := func(r Run, id, pid int, start uint64) Run {
		r, _ = advance(r, commandStarted{id, pid, start}, bubble)
		return r
	}
	started := func(r Run, id, pid int) Run { return begun(r, id, pid, 900) }
	quick := claimedRun(cleanup.LIFO)
	quick.TargetStart = 999
	for _, c := range []struct {
		name  string
		run   Run
		kids  []tree.Process
		other map[int]int // which process is known to be another command's
		want  string      // what is started, in order
	}{
		{"never started", claimedRun(cleanup.LIFO), nil, nil, "3s 2s 1s"},
		{"started, not written down", claimedRun(cleanup.LIFO), []tree.Process{child(300, 1000)}, nil, "2s 1s"},
		{"started in the tick of its claim", claimedRun(cleanup.LIFO), []tree.Process{child(300, 999)}, nil, "2s 1s"},
		{"the target, which nobody has reaped", quick, []tree.Process{child(targetPID, 999)}, nil, "3s 2s 1s"},
		{"started with the pid that the target had", quick, []tree.Process{child(targetPID, 1000)}, nil, "2s 1s"},
		{"somebody who was given up before", claimedRun(cleanup.LIFO), []tree.Process{child(300, 400)}, nil, "3s 2s 1s"},
		{"written down", started(claimedRun(cleanup.LIFO), 3, 300), []tree.Process{child(300, 900)}, nil, "2s 1s"},
		{"its start time unknown", claimedRun(cleanup.LIFO), []tree.Process{child(300, 0)}, nil, "2s 1s"},
		{"written down, its start time unknown", begun(claimedRun(cleanup.LIFO), 3, 300, 0), []tree.Process{child(300, 900)}, nil, "2s 1s"},
		{"another's start time unknown", begun(claimedRun(cleanup.Parallel), 1, 300, 0), []tree.Process{child(300, 1000)}, nil, "2s 3s"},
		{"what it has started itself", started(claimedRun(cleanup.Parallel), 1, 300),
			[]tree.Process{child(300, 900), child(301, 1000)}, map[int]int{301: 1}, "2s 3s"},
		{"the second of three in parallel", started(claimedRun(cleanup.Parallel), 1, 300),
			[]tree.Process{child(300, 900), child(301, 1000), child(302, 1000)}, map[int]int{301: 1}, "3s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			claim := 1000*tick - tick/2 // somewhere in tick 999
			run, s, _ := takeOver(t, c.run, map[int]time.Duration{1: claim, 2: claim, 3: claim}, func(s *watchedSystem) {
				s.kids, s.other = c.kids, c.other
				for _, p := range c.kids {
					pid := p.PID
					if p.Start > 0 && p.Start < 500 { // it cannot be killed and is nobody's concern
						continue
					}
					s.living[pid] = true
					s.at(time.Second, func() { s.end(Ending{}, pid) })
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

// recoverRun lets a loop go on with a run whose processes are all dead.
func recoverRun(t *testing.T, r Run, same, retry bool, script func(*watchedSystem)) (Run, *watchedSystem) {
	t.Helper()
	var run Run
	var sys *watchedSystem
	synctest.Test(t, func(t *testing.T) {
		s := newWatchedSystem(t)
		s.polling = true
		script(s)
		l := loop{run: r, sys: s, log: slog.New(slog.DiscardHandler), signals: s.signals, children: s.nudge, ledger: &memory{}, began: time.Now()}
		l.recover(remembered{last: time.Hour}, same, retry)
		run, sys = l.loop(), s
	})
	return run, sys
}

func TestRecoveringARunWhoseTargetNobodySawEnd(t *testing.T) {
	for _, state := range []State{Starting, Running, Stopping, Killing} {
		r := at(state)
		r.Cleanup = cleanup.Stack{}.Push(cleanup.AtExit, cleanup.Command{Text: "1s", Limit: time.Minute})
		run, s := recoverRun(t, r, true, false, func(*watchedSystem) {})
		if run.Reason() != "recovered" || run.Status() != 125 || run.Duration != time.Hour || slices.Contains(s.calls, "start target") {
			t.Errorf("%v: after %q it came to %+v", state, s.calls, run)
		}
		if !run.Cleanup.Entries[0].Outcome.Interrupted && run.Cleanup.Entries[0].Progress == cleanup.Ended {
			continue
		}
		t.Errorf("%v: %+v", state, run.Cleanup)
	}
}

// Whether a command that was claimed has done its work nobody can tell.
func TestAnInterruptedCommandIsRunAgainOnlyWhenThatIsAskedFor(t *testing.T) {
	began := claimedRun(cleanup.LIFO)
	began, _ = advance(began, commandStarted{3, 300, 900}, bubble)
	for _, r := range []Run{claimedRun(cleanup.LIFO), began} {
		run, s := recoverRun(t, r, true, false, func(*watchedSystem) {})
		if got := commandsStarted(s); got != "2s 1s" || !run.Cleanup.Entries[2].Outcome.Interrupted || run.State != Done {
			t.Errorf("%s were started, and it came to %+v", got, run)
		}
		again, s := recoverRun(t, run, true, true, func(*watchedSystem) {})
		if got := commandsStarted(s); got != "3s" || again.Cleanup.Entries[2].Outcome.Failed() || again.State != Done {
			t.Errorf("afterwards %s were started, and it came to %+v", got, again)
		}
		_, s = recoverRun(t, r, true, true, func(*watchedSystem) {})
		if got := commandsStarted(s); got != "3s 2s 1s" {
			t.Errorf("at once %s were started", got)
		}
	}
}

// One that still runs is waited for; after a restart of the machine its id is somebody else's.
func TestACommandThatStillRunsIsWaitedFor(t *testing.T) {
	r := claimedRun(cleanup.LIFO)
	r, _ = advance(r, commandStarted{3, 300, 900}, bubble)
	for _, same := range []bool{true, false} {
		run, s := recoverRun(t, r, same, false, func(s *watchedSystem) {
			s.others = []tree.Process{child(300, 900)}
			s.at(5*time.Second, func() { s.others = nil })
		})
		if got := commandsStarted(s); got != "2s 1s" {
			t.Errorf("%s were started", got)
		}
		last := run.Cleanup.Entries[2]
		if same && (last.Outcome.Interrupted || !strings.Contains(last.Outcome.Error, "nobody knows how")) || !same && !last.Outcome.Interrupted {
			t.Errorf("the same boot %t: %+v", same, last)
		}
		if same && !strings.HasPrefix(s.did[0], "5") {
			t.Errorf("it was not waited for: %q", s.did)
		}
	}
}

// Where nobody is our child, a pid alone names nobody.
func TestNobodyIsRecoveredByPidAlone(t *testing.T) {
	r := claimedRun(cleanup.LIFO)
	r, _ = advance(r, commandStarted{3, 300, 0}, bubble)
	for _, start := range []uint64{0, 900} {
		run, s := recoverRun(t, r, true, false, func(s *watchedSystem) {
			s.others = []tree.Process{child(300, start)}
			s.at(5*time.Second, func() { s.others = nil })
		})
		if !run.Cleanup.Entries[2].Outcome.Interrupted || slices.ContainsFunc(s.calls, func(c string) bool { return strings.HasPrefix(c, "all of") }) {
			t.Errorf("start time %d: after %q it came to %+v", start, s.calls, run.Cleanup)
		}
	}
	r.TargetStart = 0
	if ids := known(r); len(ids) > 0 {
		t.Errorf("hunted: %+v", ids)
	}
}

// A limit goes on meanwhile, and nobody is signalled but that process.
func TestACommandThatStillRunsKeepsItsLimit(t *testing.T) {
	r := claimedRun(cleanup.LIFO)
	r, _ = advance(r, commandStarted{3, 300, 900}, bubble)
	run, s := recoverRun(t, r, true, false, func(s *watchedSystem) { s.others = []tree.Process{child(300, 900)} })
	if !run.Cleanup.Entries[2].TimedOut || !slices.Contains(s.calls, "all of 300 SIGTERM") || !slices.Contains(s.calls, "all of 300 SIGKILL") {
		t.Errorf("after %q: %+v", s.calls, run.Cleanup.Entries[2])
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

// FuzzRemember reads records that anybody may have written: they may be refused, and what is made of them can be gone
// on with.
func FuzzRemember(f *testing.F) {
	first, _ := json.Marshal(firstRecord(newRun("id", Config{
		Command: []string{"target"}, Env: []string{"A=\xff"}, Contain: tree.Auto, Order: cleanup.LIFO,
		OnExit: []cleanup.Command{{Text: "c", Args: []string{"c"}, Limit: time.Second}},
	}), inherited{blocked: []syscall.Signal{3}}))
	f.Add(string(first) + "\n" + `{"event":"target started","pid":7,"start":8}` + "\n" + `{"event":"target ended","code":3}` + "\n" +
		`{"event":"tree emptied"}` + "\n" + `{"event":"command started","id":1,"pid":9}` + "\n" + `{"event":"command timer","id":1,"timer":2}`)
	f.Add(string(first) + "\n" + `{"event":"recovered"}` + "\n" + `{"event":"command lost","id":9}` + "\n" + `{"event":"retried"}`)
	f.Add(`{"graceful":1,"begin":{"command":["x"],"contain":"auto","order":"lifo","on_exit":[{"args":["x"]}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var records []json.RawMessage
		for line := range strings.SplitSeq(text, "\n") {
			records = append(records, json.RawMessage(line))
		}
		m, err := remember(records)
		if err != nil {
			return
		}
		if len(m.run.Config.Command) == 0 || m.run.State > Done {
			t.Fatalf("nobody can go on with %+v", m.run)
		}
		for _, a := range resume(m.run) {
			if c, ok := a.(startCommand); ok {
				if e, known := m.run.Cleanup.Get(c.id); !known || len(e.Command.Args) == 0 || e.Progress != cleanup.Claimed {
					t.Fatalf("%+v would be started: %+v", a, e)
				}
			}
		}
	})
}
