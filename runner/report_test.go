package runner

import (
	"encoding/json"
	"errors"
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

// reportedSystem is one that a report is wanted of.
type reportedSystem struct {
	*fakeSystem
	refuse error // what starting the target comes to
}

func (s reportedSystem) usage(int) *Usage { return &Usage{UserMS: 1.5, MaxRSSKB: 7} }

func (s reportedSystem) startTarget(r Run) (int, error) {
	if s.refuse != nil {
		return 0, s.refuse
	}
	return s.fakeSystem.startTarget(r)
}

func reportText(t *testing.T, r Run, h *history) string {
	t.Helper()
	text, err := json.MarshalIndent(r.report(h, time.Now()), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// written reads records as they come back from a ledger.
func written(t *testing.T, records ...record) remembered {
	t.Helper()
	var raw []json.RawMessage
	for _, r := range records {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, text)
	}
	m, err := remember(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Whoever goes on with a run tells the same of it as who has led it.
func TestTheReportFollowsFromTheLedger(t *testing.T) {
	commands := func(texts ...string) (all []cleanup.Command) {
		for _, text := range texts {
			all = append(all, cleanup.Command{Text: text, Args: []string{"x"}, Limit: 5 * time.Second})
		}
		return all
	}
	busy := func(s *fakeSystem) {
		s.living[7] = true
		s.send(1*time.Second, unix.SIGUSR1)
		s.send(2*time.Second, unix.SIGTERM)
		s.send(4*time.Second, unix.SIGUSR2)
		s.send(9*time.Second, unix.SIGINT)
	}
	for name, c := range map[string]struct {
		config Config
		script func(*fakeSystem)
		refuse error
		want   []string // is in it
	}{
		"a program that ends": {Config{OnExit: commands("1s", "2s"), OnStop: commands("1s")},
			func(s *fakeSystem) { s.at(time.Second, func() { s.end(Ending{Code: 7}, targetPID) }) }, nil,
			[]string{`"stop": null`, `"exit_code": 7`, `"outcome": "not-run"`, `"user_ms": 1.5`}},
		"a stop with all that there is": {
			Config{Grace: 5 * time.Second, Drain: 3 * time.Second, OnStop: commands("1s", "60s"), OnExit: commands("1s", "60s")},
			busy, nil, []string{`"escalated": true`, `"outcome": "timed-out"`, `"signal": "USR2"`, `"state": "killing"`}},
		"a schedule": {Config{Schedule: []Step{{15, time.Second}, {2, time.Second}}}, busy, nil, []string{`"signal": "INT"`}},
		"a time limit": {Config{Timeout: time.Second, Grace: time.Second, Deadline: 20 * time.Second}, func(*fakeSystem) {}, nil,
			[]string{`"timed_out": true`, `"reason": "timed-out"`}},
		"repeated signals kill": {Config{Grace: time.Minute, KillOnRepeat: true, OnExit: commands("1s", "60s")},
			func(s *fakeSystem) {
				busy(s)
				s.send(10*time.Second, unix.SIGTERM)
				s.send(11*time.Second, unix.SIGTERM)
			}, nil,
			[]string{`"outcome": "cut"`}},
		"survivors that are waited for": {Config{Survivors: WaitSurvivors, Grace: time.Second},
			func(s *fakeSystem) { busy(s); s.at(time.Millisecond, func() { s.end(Ending{}, targetPID) }) }, nil,
			[]string{`"to": "survivors"`, `"began"`}},
		"a program that cannot be started": {Config{OnExit: commands("1s")}, func(*fakeSystem) {}, errors.New("no way"),
			[]string{`"error": "no way"`, `"reason": "start-failed"`, `"tree_emptied": null`}},
		"a command that cannot be started": {Config{OnExit: commands("1s", "2s")},
			func(s *fakeSystem) {
				s.startErr = []error{unix.EAGAIN, unix.ENOENT}
				s.at(time.Second, func() { s.end(Ending{}, targetPID) })
			}, nil, []string{`"outcome": "not-started"`}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := c.config
				config.Command, config.Report, config.Contain, config.Order = []string{"target"}, "/r", tree.Auto, cleanup.LIFO
				config.ForwardTo = ForwardToGroup
				if config.Survivors == "" {
					config.Survivors = StopSurvivors
				}
				s := reportedSystem{newFakeSystem(), c.refuse}
				s.fakeSystem.signals = make(chan syscall.Signal, 8) // some come when it is over
				c.script(s.fakeSystem)
				r := newRun("id", config)
				first := firstRecord(r, inherited{})
				book := &memory{}
				h := newHistory(r, first.Begin.Front, string(first.Begin.Dir), first.Time)
				l := loop{run: r, sys: s, log: slog.New(slog.DiscardHandler), signals: s.signals, children: s.nudge, ledger: book, history: h}
				done := l.do()
				h.killed = nil // is nowhere written down
				m := written(t, append([]record{first}, book.records...)...)
				live, read := reportText(t, done, h), reportText(t, m.run, m.history)
				if live != read {
					t.Errorf("who led it tells\n%s\nand the ledger\n%s", live, read)
				}
				for _, want := range c.want {
					if !strings.Contains(live, want) {
						t.Errorf("no %s in\n%s", want, live)
					}
				}
			})
		})
	}
}

// However many signals come, neither what we hold nor the ledger grows beyond a limit.
func TestAFloodOfSignalsIsCountedAndNotKept(t *testing.T) {
	const many = 30_000
	for name, sig := range map[string]int{"passed on": int(unix.SIGUSR1), "stop signals": int(unix.SIGTERM)} {
		t.Run(name, func(t *testing.T) {
			r := newRun("id", Config{
				Command: []string{"target"}, Report: "/r", Grace: time.Hour, Contain: tree.Auto, Order: cleanup.LIFO,
				ForwardTo: ForwardToGroup, Survivors: StopSurvivors,
			})
			first := firstRecord(r, inherited{})
			book := &memory{}
			h := newHistory(r, 1, "/", first.Time)
			l := loop{run: r, sys: newFakeSystem(), log: slog.New(slog.DiscardHandler), ledger: book, history: h}
			l.handle(targetStarted{targetPID, 1})
			for range many {
				l.hear(unix.Signal(sig))
			}
			if len(h.received) != historyLimit || len(h.sent) != historyLimit || h.omitted != 2*(many-historyLimit) {
				t.Errorf("%d received, %d sent, %d omitted", len(h.received), len(h.sent), h.omitted)
			}
			if n := len(book.records); n > historyLimit+3 {
				t.Errorf("%d records", n)
			}
			for _, r := range book.records {
				if text, _ := json.Marshal(r); len(text) > 1<<8-64 { // see begin; the rest is for the sum
					t.Fatalf("a record of %d bytes: %s", len(text), text)
				}
			}
			m := written(t, append([]record{first}, book.records...)...)
			if !slices.EqualFunc(m.history.received, h.received, func(a, b Signalled) bool { return a.Number == b.Number && a.Time.Equal(b.Time) }) {
				t.Error("the ledger tells of others")
			}
		})
	}
}

func TestTheReportNamesWhoWasKilledOnce(t *testing.T) {
	h := newHistory(Run{Config: Config{Report: "/r"}}, 1, "/", time.Now())
	r := Run{State: Killing, TargetPID: 5}
	p := func(pid int, start uint64) tree.Process {
		return tree.Process{Identity: tree.Identity{PID: pid, Start: start}, Name: "p"}
	}
	for _, q := range []tree.Process{p(5, 1), p(6, 1), p(7, 1), p(6, 1), p(7, 2)} {
		h.kill(q, r)
	}
	h.kill(p(8, 1), Run{State: Cleaning, TargetPID: 5}) // a command's
	if got := processesOf(h.killed); !slices.Equal(got, []Process{{6, "p"}, {7, "p"}, {7, "p"}}) {
		t.Errorf("killed: %v", got)
	}
	for pid := range 2 * historyLimit {
		h.kill(p(100+pid, 1), r)
	}
	if len(h.killed) != historyLimit {
		t.Errorf("%d are kept", len(h.killed))
	}
}

// What is nobody's to wait for, or was lost, is not said to have failed, nor not to have been started.
func TestWhatBecomesOfACommandInTheReport(t *testing.T) {
	life := span{from: time.Unix(1, 0), to: time.Unix(2, 0), pid: 9}
	for want, c := range map[string]struct {
		entry cleanup.Entry
		life  span
	}{
		"not-run":     {cleanup.Entry{}, span{}},
		"succeeded":   {cleanup.Entry{Progress: cleanup.Ended, PID: 9}, life},
		"failed":      {cleanup.Entry{Progress: cleanup.Ended, PID: 9, Outcome: cleanup.Outcome{Code: 1}}, life},
		"timed-out":   {cleanup.Entry{Progress: cleanup.Ended, PID: 9, TimedOut: true}, life},
		"cut":         {cleanup.Entry{Progress: cleanup.Ended, PID: 9, Cut: true, Outcome: cleanup.Outcome{Signal: 15}}, life},
		"not-started": {cleanup.Entry{Progress: cleanup.Ended, Outcome: cleanup.Outcome{Error: "x"}}, span{to: life.to}},
		"interrupted": {cleanup.Entry{Progress: cleanup.Ended, Outcome: cleanup.Outcome{Interrupted: true}}, life},
		"unknown":     {cleanup.Entry{Progress: cleanup.Ended, Outcome: cleanup.Outcome{Error: wasUnseen}}, life},
	} {
		o := outcomeOf(c.entry, c.life)
		if o.Outcome != want || (o.PID != nil) != (c.life.pid != 0) || (o.DurationMS != nil) != (c.life.pid != 0) {
			t.Errorf("%s: %+v", want, o)
		}
	}
	if o := outcomeOf(cleanup.Entry{When: cleanup.AtStop, Progress: cleanup.Ended, Outcome: cleanup.Outcome{Error: wasInterrupted}}, life); o.Outcome != "interrupted" {
		t.Errorf("an on-stop command that was lost: %+v", o)
	}
	// The clock may be set back meanwhile.
	if o := outcomeOf(cleanup.Entry{Progress: cleanup.Ended, PID: 9}, span{from: life.to, to: life.from, pid: 9}); *o.DurationMS != 0 {
		t.Errorf("it took %d ms", *o.DurationMS)
	}
}

// Whom SIGKILL does not end is named, and the tree is not said to be empty.
func TestTheReportNamesWhoIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSystem()
		s.living[7], s.immortal[7], s.living[8] = true, true, true
		s.at(time.Second, func() { s.end(Ending{}, targetPID) })
		r := newRun("id", Config{Command: []string{"target"}, Report: "/r", Grace: time.Second})
		h := newHistory(r, 1, "/", time.Now())
		l := loop{run: r, sys: s, log: slog.New(slog.DiscardHandler), signals: s.signals, children: s.nudge, history: h}
		done := l.do().report(h, time.Now())
		if !slices.Equal(done.Left, []Process{{7, "p"}}) || !slices.Equal(done.Killed, []Process{{7, "p"}, {8, "p"}}) || done.Emptied != nil || !done.Escalated {
			t.Errorf("it tells %+v", done)
		}
	})
}

// A command that runs again is told of as if it had not run before.
func TestARetriedCommandInTheReport(t *testing.T) {
	r := newRun("id", Config{Command: []string{"target"}, Report: "/r", OnExit: []cleanup.Command{{Text: "x", Args: []string{"x"}, Limit: time.Minute}}})
	h := newHistory(r, 1, "/", time.Now())
	for i, e := range []event{
		targetStarted{targetPID, 1}, targetEnded{}, treeEmptied{}, commandStarted{1, 9, 1}, commandLost{1}, treeEmptied{}, retried{},
		commandFailed{id: 1, err: "no way"}, treeEmptied{},
	} {
		was := r
		r, _ = next(r, e)
		h.happened(was, r, e, time.Unix(int64(i), 0))
	}
	if c := r.report(h, time.Now()).Commands[0]; c.Outcome != "not-started" || c.PID != nil || c.Started != nil {
		t.Errorf("it tells %+v", c)
	}
}
