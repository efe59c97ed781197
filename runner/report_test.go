package runner

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/report"
	"graceful/runner/tree"
)

func reportText(t *testing.T, r Run, h *report.History) string {
	t.Helper()
	doc := h.Report(r.Run, time.Now())
	doc.Killed = nil // the ledger does not contain the killed processes
	text, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// replayed returns the run that a replay of records makes.
func replayed(t *testing.T, raw ...json.RawMessage) recordedRun {
	t.Helper()
	rec, err := replayRun(raw)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// reportCase describes a run, and texts that the report of the run must contain.
type reportCase struct {
	config Config
	script func(*fakeSystem)
	refuse error    // result of startTarget
	want   []string // texts in the report
}

func reportCases() map[string]reportCase {
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
	return map[string]reportCase{
		"a program that ends": {Config{OnExit: commands("1s", "2s"), OnStop: commands("1s")},
			func(s *fakeSystem) { s.at(time.Second, func() { s.end(machine.Ending{Code: 7}, targetPID) }) }, nil,
			[]string{`"stop": null`, `"exit_code": 7`, `"outcome": "not-run"`, `"user_ms": 1.5`}},
		"a stop with every option": {
			Config{
				OnStop: commands("1s", "60s"), OnExit: commands("1s", "60s"),
				Policy: machine.Policy{Grace: 5 * time.Second, Drain: 3 * time.Second}},
			busy, nil, []string{`"escalated": true`, `"outcome": "timed-out"`, `"signal": "USR2"`, `"state": "killing"`}},
		"a schedule": {
			Config{Policy: machine.Policy{
				Schedule: []machine.Step{{Signal: 15, Wait: time.Second}, {Signal: 2, Wait: time.Second}}}},
			busy, nil, []string{`"signal": "INT"`}},
		"a time limit": {
			Config{Policy: machine.Policy{Timeout: time.Second, Grace: time.Second, Deadline: 20 * time.Second}},
			func(*fakeSystem) {}, nil,
			[]string{`"timed_out": true`, `"reason": "timed-out"`}},
		"repeated signals kill": {
			Config{OnExit: commands("1s", "60s"), Policy: machine.Policy{Grace: time.Minute, OnRepeat: machine.RepeatKill}},
			func(s *fakeSystem) {
				busy(s)
				s.send(10*time.Second, unix.SIGTERM)
				s.send(11*time.Second, unix.SIGTERM)
			}, nil,
			[]string{`"outcome": "cut"`}},
		"survivors that are waited for": {
			Config{Policy: machine.Policy{Survivors: machine.WaitSurvivors, Grace: time.Second}},
			func(s *fakeSystem) { busy(s); s.at(time.Millisecond, func() { s.end(machine.Ending{}, targetPID) }) }, nil,
			[]string{`"to": "survivors"`, `"began"`}},
		"a program that cannot be started": {Config{OnExit: commands("1s")}, func(*fakeSystem) {}, errors.New("no way"),
			[]string{`"error": "no way"`, `"reason": "start-failed"`, `"tree_emptied": null`}},
		"a command that cannot be started": {Config{OnExit: commands("1s", "2s")},
			func(s *fakeSystem) {
				s.startErr = []error{unix.EAGAIN, unix.ENOENT}
				s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
			}, nil, []string{`"outcome": "not-started"`}},
	}
}

// A report that is made from the ledger equals the report of the process that performed the run.
func TestReport_liveAndReplayedAreEqual(t *testing.T) {
	for name, c := range reportCases() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := c.config
				config.Command, config.Report, config.Contain, config.Order = []string{"target"}, "/r", tree.Auto, cleanup.LIFO
				config.ForwardTo = machine.ForwardToGroup
				if config.Survivors == "" {
					config.Survivors = machine.StopSurvivors
				}
				s := newFakeSystem()
				s.targetErr, s.targetUsage = c.refuse, &machine.Usage{UserMS: 1.5, MaxRSSKB: 7}
				s.signals = make(chan syscall.Signal, 8) // some signals arrive after the end of the run
				c.script(s)
				r := newRun("id", config)
				first := firstRecord(r, process.Inherited{})
				runLedger := &memory{}
				h := replayed(t, first).history
				l := loopOn(s, r)
				l.recorder = recorder{ledger: runLedger, history: h}
				done := l.start()
				rec := replayed(t, append([]json.RawMessage{first}, runLedger.records...)...)
				live, read := reportText(t, done, h), reportText(t, rec.run, rec.history)
				if live != read {
					t.Errorf("the live report is\n%s\nthe report from the ledger is\n%s", live, read)
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

// The history and the ledger have a maximum size, whatever the number of signals is.
func TestReport_floodOfSignals(t *testing.T) {
	const many = 30_000
	for name, sig := range map[string]int{"passed on": int(unix.SIGUSR1), "stop signals": int(unix.SIGTERM)} {
		t.Run(name, func(t *testing.T) {
			r := newRun("id", Config{Command: []string{"target"}, Report: "/r", Contain: tree.Auto, Policy: machine.Policy{
				Grace: time.Hour, Order: cleanup.LIFO, ForwardTo: machine.ForwardToGroup, Survivors: machine.StopSurvivors,
			}})
			first := firstRecord(r, process.Inherited{})
			runLedger := &memory{}
			h := newHistory(r, 1, "/", time.Now())
			l := loopOn(newFakeSystem(), r)
			l.recorder = recorder{ledger: runLedger, history: h}
			l.handle(machine.TargetStarted{PID: targetPID, Start: 1})
			for range many {
				l.handleSignal(unix.Signal(sig))
				l.run.Stop.WindowOpen = false // a further stop signal does not belong to the first one
			}
			live := h.Report(l.run.Run, time.Now())
			if len(live.Received) != report.MaxListed || len(live.Sent) != report.MaxListed ||
				live.Omitted != 2*(many-report.MaxListed) {
				t.Errorf("%d received, %d sent, %d omitted", len(live.Received), len(live.Sent), live.Omitted)
			}
			if n := len(runLedger.records); n > report.MaxListed+4 {
				t.Errorf("%d records", n)
			}
			for _, r := range runLedger.records {
				if text, _ := json.Marshal(r); len(text) > 1<<8-64 { // the rest of the line is for the checksum
					t.Fatalf("a record of %d bytes: %s", len(text), text)
				}
			}
			rec := replayed(t, append([]json.RawMessage{first}, runLedger.records...)...)
			read := rec.history.Report(rec.run.Run, time.Now())
			equal := func(a, b report.Signalled) bool { return a.Number == b.Number && a.Time.Equal(b.Time) }
			if !slices.EqualFunc(read.Received, live.Received, equal) {
				t.Error("the ledger has other signals")
			}
		})
	}
}

// The report names processes that SIGKILL has not ended, and does not report an empty tree.
func TestReport_leftProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSystem()
		s.living[7], s.immortal[7], s.living[8] = true, true, true
		s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
		r := newRun("id", Config{Command: []string{"target"}, Report: "/r", Policy: machine.Policy{Grace: time.Second}})
		h := newHistory(r, 1, "/", time.Now())
		l := loopOn(s, r)
		l.recorder.history = h
		done := h.Report(l.start().Run, time.Now())
		killed := []report.Process{{PID: 7, Name: "p"}, {PID: 8, Name: "p"}}
		if !slices.Equal(done.Left, killed[:1]) || !slices.Equal(done.Killed, killed) ||
			done.Emptied != nil || !done.Escalated {
			t.Errorf("the report has %+v", done)
		}
	})
}

// For a command that was retried, the report describes only the last start.
func TestReport_retriedCommand(t *testing.T) {
	command := cleanup.Command{Text: "x", Args: []string{"x"}, Limit: time.Minute}
	r := newRun("id", Config{Command: []string{"target"}, Report: "/r", OnExit: []cleanup.Command{command}})
	h := newHistory(r, 1, "/", time.Now())
	for i, e := range []machine.Event{
		machine.TargetStarted{PID: targetPID, Start: 1}, machine.TargetEnded{}, machine.TreeEmptied{},
		machine.CommandStarted{ID: 1, PID: 9, Start: 1}, machine.CommandLost{ID: 1}, machine.TreeEmptied{}, machine.Retried{},
		machine.CommandFailed{ID: 1, Err: "no way"}, machine.TreeEmptied{},
	} {
		was := r
		r.Run, _ = machine.Next(r.Run, e)
		h.RecordEvent(was.Run, r.Run, e, time.Unix(int64(i), 0))
	}
	if c := h.Report(r.Run, time.Now()).Commands[0]; c.Outcome != "not-started" || c.PID != nil || c.Started != nil {
		t.Errorf("the report has %+v", c)
	}
}
