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

// These tests have one goroutine, and with the race detector would take a minute.

// filled is a run whose ledger is being filled.
type filled struct {
	run  machine.Run
	book *ledger.Ledger
}

// newFilled begins with the largest first record that a run may have.
func newFilled(t *testing.T) (f filled, size func() int) {
	t.Helper()
	f.book, size = inMemory(t)
	f.run = machine.New(machine.Policy{Schedule: make([]machine.Step, 3)}, nil, nil)
	b := Begin{ID: "id", Command: cleanup.Texts([]string{worst(maxFirst/6 - 1<<10)}), Config: json.RawMessage("{}")}
	if err := Start(f.book, b, f.run, MaxSignals, Clock{late, math.MaxInt64}); err != nil {
		t.Fatal(err)
	}
	if left := maxFirst - size() - 3*perStep; left < 0 || left > 16<<10 {
		t.Fatalf("the first record leaves %d bytes", left)
	}
	f.run.State = machine.Running
	return f, size
}

// register has the machine decide on a command, and records it when the machine takes it.
func (f *filled) register(t *testing.T, c cleanup.Entry) (taken bool) {
	t.Helper()
	e := machine.Registered{Entry: c, Left: math.MinInt64}
	r, todo := machine.Next(f.run, e)
	got := todo[len(todo)-1].(machine.Answer)
	if got.Refusal != "" {
		want := fmt.Sprintf("the run has taken %d commands of %d bytes, and takes no more", len(f.run.Cleanup.Entries), f.run.Cleanup.Recorded)
		if r.Changed(f.run) || got.Refusal != want {
			t.Fatalf("refused: %q, want %q", got.Refusal, want)
		}
		return false
	}
	f.run = r
	keep(t, f.book, recordsOf(t, e)...)
	return true
}

// happen records all that can happen to the run itself.
func (f *filled) happen(t *testing.T) {
	t.Helper()
	for range MaxSignals {
		keep(t, f.book, recordsOf(t, passed)...)
	}
	for range f.run.Policy.Steps() {
		keep(t, f.book, recordsOf(t, machine.TimeUp{Name: machine.GraceTimer})...)
	}
	keep(t, f.book, recordsOf(t, runEvents()...)...)
}

// When no command is taken any more, all events of those that were taken still go into the ledger: here of few commands
// that are as large as can be, and of some small ones that fill the rest.
func TestFewLargeCommandsLeaveRoomForTheirEvents(t *testing.T) {
	f, size := newFilled(t)
	for n := 1 << 20; n > 0; n /= 8 {
		for f.register(t, cleanup.Entry{Command: cleanup.ExecForm([]string{"c", worst(n)})}) {
		}
	}
	commands := len(f.run.Cleanup.Entries)
	if left := machine.MaxRegistered - f.run.Cleanup.Recorded; left < 0 || left > 1<<10 || commands > 100 {
		t.Errorf("%d bytes are left, of %d commands", left, commands)
	}
	for id := 1; id <= commands; id++ {
		for _, life := range lives(id) {
			keep(t, f.book, recordsOf(t, life...)...)
		}
	}
	f.happen(t)
	t.Logf("%d commands, %d bytes", commands, size())
}

// The same of as many commands as a run takes. Each takes all the room that its events may take.
func TestVeryManyCommandsLeaveRoomForTheirEvents(t *testing.T) {
	f, size := newFilled(t)
	small := func(n int) cleanup.Entry {
		c := cleanup.Entry{Command: cleanup.Command{Args: []string{worst(n)}, Limit: math.MinInt64}, Registration: cleanup.Registration{Key: "k"}}
		c.Exits = cleanup.Process{PID: math.MinInt, Start: math.MaxUint64}
		return c
	}
	n := 0
	for small(n+1).RecordSize() <= machine.MaxRegistered/machine.MaxCommands {
		n++
	}
	entry := small(n)
	registration := recordsOf(t, machine.Registered{Entry: entry, Left: math.MinInt64})
	for range machine.MaxCommands - 1 { // the machine would take them one after the other, and seconds for that
		keep(t, f.book, registration...)
		f.run.Cleanup.Entries = append(f.run.Cleanup.Entries, &entry)
		f.run.Cleanup.Recorded += entry.RecordSize()
	}
	entry.Key = "" // each has another one
	if !f.register(t, entry) || f.register(t, cleanup.Entry{Command: cleanup.ExecForm([]string{"true"})}) {
		t.Errorf("%d commands are taken, of %d bytes", len(f.run.Cleanup.Entries), f.run.Cleanup.Recorded)
	}
	all := json.RawMessage(`"` + strings.Repeat("x", perCommand-overhead-2) + `"`)
	ways := []string{"killed", "lost", "not started", "withdrawn"}
	for id := 1; id <= machine.MaxCommands; id++ {
		if id <= 100 || id > machine.MaxCommands-100 {
			keep(t, f.book, recordsOf(t, lives(id)[ways[id%len(ways)]]...)...)
		} else {
			keep(t, f.book, all)
		}
	}
	f.happen(t)
	if left := ledger.MaxSize - size(); left > 8<<20 { // not all numbers are at their largest at once
		t.Errorf("%d bytes are left", left)
	}
	t.Logf("%d commands, %d bytes", machine.MaxCommands, size())
}
