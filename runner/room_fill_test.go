//go:build !race

package runner

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
)

// These tests have one goroutine, and with the race detector would take a minute.

// filled is a run whose ledger is being filled.
type filled struct {
	run  Run
	book *ledger.Ledger
}

// newFilled begins with the largest first record that a run may have.
func newFilled(t *testing.T) (f filled, size func() int) {
	t.Helper()
	f.book, size = inMemory(t)
	config := Config{Command: []string{worst(maxFirst/6 - 1<<10)}, Report: "r", Schedule: make([]Step, 3)}
	f.run = newRun("id", config)
	if err := begin(f.book, f.run, inherited{}); err != nil {
		t.Fatal(err)
	}
	if left := maxFirst - size() - 3*perStep; left < 0 || left > 16<<10 {
		t.Fatalf("the first record leaves %d bytes", left)
	}
	f.run.State = Running
	return f, size
}

// register has the machine decide on a command, and records it when the machine takes it.
func (f *filled) register(t *testing.T, c cleanup.Entry) (taken bool) {
	t.Helper()
	e := registered{entry: c, left: math.MinInt64}
	r, todo := next(f.run, e)
	got := todo[len(todo)-1].(answer)
	if got.refusal != "" {
		commands := len(f.run.Cleanup.Entries)
		want := fmt.Sprintf("the run has taken %d commands of %d bytes, and takes no more", commands, f.run.Recorded)
		if r.moved(f.run) || got.refusal != want {
			t.Fatalf("refused: %q, want %q", got.refusal, want)
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
	for range historyLimit {
		keep(t, f.book, record{Event: "signal", Signal: 64})
	}
	for range f.run.Config.steps() {
		keep(t, f.book, recordsOf(t, timeUp{graceTimer})...)
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
	if left := maxRegistered - f.run.Recorded; left < 0 || left > 1<<10 || commands > 100 {
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
		c := cleanup.Entry{Command: cleanup.Command{Args: []string{worst(n)}, Limit: math.MinInt64}}
		c.Key, c.Exits = "k", cleanup.Process{PID: math.MinInt, Start: math.MaxUint64}
		return c
	}
	n := 0
	for sizeOf(small(n+1)) <= maxRegistered/maxCommands {
		n++
	}
	entry := small(n)
	registration := recordsOf(t, registered{entry: entry, left: math.MinInt64})
	for range maxCommands - 1 { // the machine would take them one after the other, and seconds for that
		keep(t, f.book, registration...)
		f.run.Cleanup.Entries = append(f.run.Cleanup.Entries, &entry)
		f.run.Recorded += sizeOf(entry)
	}
	entry.Key = "" // each has another one
	if !f.register(t, entry) || f.register(t, cleanup.Entry{Command: cleanup.ExecForm([]string{"true"})}) {
		t.Errorf("%d commands are taken, of %d bytes", len(f.run.Cleanup.Entries), f.run.Recorded)
	}
	all := record{Event: "x"}
	scratch, lineSize := inMemory(t)
	keep(t, scratch, all)
	all.Event = strings.Repeat("x", 1+perCommand-lineSize())
	ways := []string{"killed", "lost", "not started", "withdrawn"}
	for id := 1; id <= maxCommands; id++ {
		if id <= 100 || id > maxCommands-100 {
			keep(t, f.book, recordsOf(t, lives(id)[ways[id%len(ways)]]...)...)
		} else {
			keep(t, f.book, all)
		}
	}
	f.happen(t)
	if left := ledger.MaxSize - size(); left > 8<<20 { // not all numbers are at their largest at once
		t.Errorf("%d bytes are left", left)
	}
	t.Logf("%d commands, %d bytes", maxCommands, size())
}
