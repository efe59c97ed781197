//go:build !race

package journal

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/runner/machine"
)

// These tests do not run with the race detector. They use one goroutine, and would only take longer, up to a minute.

// fullRun is a run with a ledger that a test fills.
type fullRun struct {
	run    machine.Run
	ledger *ledger.Ledger
}

// newFullRun returns a run in Running, whose first record is about as large as possible. size returns the size of the
// ledger in bytes.
func newFullRun(t *testing.T) (f fullRun, size func() int) {
	t.Helper()
	f.ledger, size = inMemory(t)
	f.run = machine.New(machine.Policy{Schedule: make([]machine.Step, 3)}, nil, nil)
	b := Begin{ID: "id", Command: cleanup.Texts([]string{longest(maxFirst/6 - 1<<10)}), Config: json.RawMessage("{}")}
	if err := Start(f.ledger, b, f.run, MaxSignals, Clock{longestTime, math.MaxInt64}); err != nil {
		t.Fatal(err)
	}
	if left := maxFirst - size() - 3*perStep; left < 0 || left > 16<<10 {
		t.Fatalf("the first record leaves %d bytes", left)
	}
	f.run.State = machine.Running
	return f, size
}

// register asks the machine to add a command, and records the registration if the machine has added the command. The
// machine may refuse it only because the run takes no more commands.
func (f *fullRun) register(t *testing.T, c cleanup.Entry) (added bool) {
	t.Helper()
	e := machine.Registered{Entry: c, Left: math.MinInt64}
	r, todo := machine.Next(f.run, e)
	answer := todo[len(todo)-1].(machine.Answer)
	if answer.Refusal != "" {
		want := fmt.Sprintf("the run has taken %d commands of %d bytes, and takes no more",
			f.run.Cleanup.Entries.Len(), f.run.Cleanup.Recorded)
		if r.Changed(f.run) || answer.Refusal != want {
			t.Fatalf("refused: %q, want %q", answer.Refusal, want)
		}
		return false
	}
	f.run = r
	appendAll(t, f.ledger, recordsOf(t, e)...)
	return true
}

// recordRunEvents records all events that can happen to the run itself: the signals for the report, the steps and
// runEvents.
func (f *fullRun) recordRunEvents(t *testing.T) {
	t.Helper()
	for range MaxSignals {
		appendAll(t, f.ledger, recordsOf(t, reportedSignal)...)
	}
	for range f.run.Policy.Steps() {
		appendAll(t, f.ledger, recordsOf(t, machine.TimeUp{Name: machine.GraceTimer})...)
	}
	appendAll(t, f.ledger, recordsOf(t, runEvents()...)...)
}

// After the last registration, all events of all commands still fit. In this test, a few large commands and then many
// small ones use up the room for registrations.
func TestRoom_fewLargeCommands(t *testing.T) {
	f, size := newFullRun(t)
	for n := 1 << 20; n > 0; n /= 8 {
		for f.register(t, cleanup.Entry{Command: cleanup.ExecForm([]string{"c", longest(n)})}) {
		}
	}
	commands := f.run.Cleanup.Entries.Len()
	if left := machine.MaxRegistered - f.run.Cleanup.Recorded; left < 0 || left > 1<<10 || commands > 100 {
		t.Errorf("%d bytes are left, of %d commands", left, commands)
	}
	for id := 1; id <= commands; id++ {
		for _, life := range lives(id) {
			appendAll(t, f.ledger, recordsOf(t, life...)...)
		}
	}
	f.recordRunEvents(t)
	t.Logf("%d commands, %d bytes", commands, size())
}

// After MaxCommands registrations, all events of all commands still fit, even if each command uses all the room for its
// events. The test appends the entries directly, because the machine needs seconds to add them.
func TestRoom_manyCommands(t *testing.T) {
	f, size := newFullRun(t)
	small := func(n int) cleanup.Entry {
		c := cleanup.Entry{Command: cleanup.Command{Args: []string{longest(n)}, Limit: math.MinInt64}}
		c.Key = "k"
		c.Awaited = cleanup.Process{PID: math.MinInt, Start: math.MaxUint64}
		return c
	}
	n := 0
	for small(n+1).RecordSize() <= machine.MaxRegistered/machine.MaxCommands {
		n++
	}
	entry := small(n)
	registration := recordsOf(t, machine.Registered{Entry: entry, Left: math.MinInt64})
	for range machine.MaxCommands - 1 {
		appendAll(t, f.ledger, registration...)
		f.run.Cleanup.Commands = f.run.Cleanup.Register(entry)
		f.run.Cleanup.Recorded += entry.RecordSize()
	}
	entry.Key = "" // a request with a known key would only return the id of that command
	if !f.register(t, entry) || f.register(t, cleanup.Entry{Command: cleanup.ExecForm([]string{"true"})}) {
		t.Errorf("%d commands are registered, of %d bytes", f.run.Cleanup.Entries.Len(), f.run.Cleanup.Recorded)
	}
	all := json.RawMessage(`"` + strings.Repeat("x", perCommand-ledger.Overhead-2) + `"`)
	ways := []string{"killed", "lost", "not started", "withdrawn"}
	for id := 1; id <= machine.MaxCommands; id++ {
		if id <= 100 || id > machine.MaxCommands-100 {
			appendAll(t, f.ledger, recordsOf(t, lives(id)[ways[id%len(ways)]]...)...)
		} else {
			appendAll(t, f.ledger, all)
		}
	}
	f.recordRunEvents(t)
	if left := ledger.MaxSize - size(); left > 8<<20 { // some numbers are shorter than their maximum
		t.Errorf("%d bytes are left", left)
	}
	t.Logf("%d commands, %d bytes", machine.MaxCommands, size())
}
