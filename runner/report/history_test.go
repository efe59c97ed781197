package report

import (
	"slices"
	"testing"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// Each process that is killed before cleanup is listed once, up to MaxListed processes. The target is not listed.
func TestHistoryRecordKilled(t *testing.T) {
	h := NewHistory(Subject{}, time.Now())
	r := machine.Run{State: machine.Killing, Target: machine.Target{PID: 5}}
	p := func(pid int, start uint64) procfs.Process {
		return procfs.Process{Identity: procfs.Identity{PID: pid, Start: start}, Name: "p"}
	}
	for _, q := range []procfs.Process{p(5, 1), p(6, 1), p(7, 1), p(6, 1), p(7, 2)} {
		h.RecordKilled(q, r)
	}
	h.RecordKilled(p(8, 1), machine.Run{State: machine.Cleaning, Target: machine.Target{PID: 5}}) // a process of a command
	if got := processesOf(h.killed); !slices.Equal(got, []Process{{6, "p"}, {7, "p"}, {7, "p"}}) {
		t.Errorf("killed: %v", got)
	}
	for pid := range 2 * MaxListed {
		h.RecordKilled(p(100+pid, 1), r)
	}
	if len(h.killed) != MaxListed {
		t.Errorf("%d processes are listed", len(h.killed))
	}
}

// outcomeOf returns the word for an outcome. An unknown outcome is "unknown", not "failed" or "not-started".
func TestOutcomeOf(t *testing.T) {
	life := span{from: time.Unix(1, 0), to: time.Unix(2, 0), pid: 9}
	for want, c := range map[string]struct {
		entry cleanup.Entry
		life  span
	}{
		"not-run":   {cleanup.Entry{}, span{}},
		"succeeded": {cleanup.Entry{Progress: cleanup.Ended, PID: 9}, life},
		"failed":    {cleanup.Entry{Progress: cleanup.Ended, PID: 9, Outcome: cleanup.Outcome{Code: 1}}, life},
		"timed-out": {cleanup.Entry{Progress: cleanup.Ended, PID: 9, TimedOut: true}, life},
		"cut": {
			cleanup.Entry{Progress: cleanup.Ended, PID: 9, Cut: true, Outcome: cleanup.Outcome{Signal: 15}}, life,
		},
		"not-started": {cleanup.Entry{Progress: cleanup.Ended, Outcome: cleanup.Outcome{Error: "x"}}, span{to: life.to}},
		"interrupted": {cleanup.Entry{Progress: cleanup.Ended, Outcome: cleanup.Outcome{Interrupted: true}}, life},
		"unknown":     {cleanup.Entry{Progress: cleanup.Ended, Outcome: cleanup.Outcome{Error: "x", Unseen: true}}, life},
	} {
		o := outcomeOf(c.entry, c.life)
		if o.Outcome != want || (o.PID != nil) != (c.life.pid != 0) || (o.DurationMS != nil) != (c.life.pid != 0) {
			t.Errorf("%s: %+v", want, o)
		}
	}
	lost := cleanup.Outcome{Error: "x", Interrupted: true}
	o := outcomeOf(cleanup.Entry{When: cleanup.AtStop, Progress: cleanup.Ended, Outcome: lost}, life)
	if o.Outcome != "interrupted" {
		t.Errorf("a lost on-stop command: %+v", o)
	}
	// The duration of a command is not negative, even if the clock is set back while the command runs.
	backwards := span{from: life.to, to: life.from, pid: 9}
	if o := outcomeOf(cleanup.Entry{Progress: cleanup.Ended, PID: 9}, backwards); *o.DurationMS != 0 {
		t.Errorf("the command took %d ms", *o.DurationMS)
	}
}
