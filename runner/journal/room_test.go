package journal

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/forward"
	"graceful/runner/machine"
)

// inMemory returns a ledger in memory. size returns its size in bytes.
func inMemory(t *testing.T) (l *ledger.Ledger, size func() int) {
	t.Helper()
	l, err := ledger.InMemory()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("there is no ledger in memory")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, func() int {
		var st unix.Stat_t
		if err := unix.Fstat(l.FD(), &st); err != nil {
			t.Fatal(err)
		}
		return int(st.Size)
	}
}

// longestTime is a time whose JSON form has the maximum length.
var longestTime = time.Date(2026, 11, 24, 16, 54, 15, 123456789, time.FixedZone("", 5*3600+30*60))

// longest returns a text of n bytes whose JSON form has the maximum length.
func longest(n int) string { return strings.Repeat("\x01", n) }

// appendAll appends records to a ledger.
func appendAll(t *testing.T, l *ledger.Ledger, records ...json.RawMessage) {
	t.Helper()
	for _, r := range records {
		if err := l.Append(r); err != nil {
			t.Fatalf("%.100s: %v", r, err)
		}
	}
}

// recordsOf returns the records of events, with times of the maximum length. It fails the test if an event has no
// record.
func recordsOf(t *testing.T, events ...machine.Event) (records []json.RawMessage) {
	t.Helper()
	for _, e := range events {
		r, err := Record(e, true, true, Clock{longestTime, math.MaxInt64})
		if err != nil || r == nil {
			t.Fatalf("%T is not recorded: %v", e, err)
		}
		records = append(records, r)
	}
	return records
}

// reportedSignal is a signal that is recorded only for the report.
var reportedSignal = machine.Signalled{Signal: 64, Meaning: forward.Pass}

// stop returns a stop signal for tests.
func stop(sig int) machine.Event { return machine.Signalled{Signal: sig, Meaning: forward.Stop} }

// lives returns, by name, the longest sequences of events that the command id can have after its registration.
func lives(id int) map[string][]machine.Event {
	timer := func(name machine.TimerName) machine.Event { return machine.CommandTimer{ID: id, Name: name} }
	exited, emptied := machine.ProcessExited{ID: id}, machine.TreeEmptied{}
	started := machine.CommandStarted{ID: id, PID: math.MaxInt32, Start: math.MaxUint64}
	started.Discarded = cleanup.Outputs{Stdout: true, Stderr: true}
	failed := machine.CommandFailed{ID: id, Err: cleanup.Text(longest(10000))}
	lacking := failed
	lacking.Unstarted = true
	ended := machine.CommandEnded{ID: id, Ending: machine.Ending{Code: 255, Signal: 64}, Unseen: true}
	other := ended // the end of a process that belongs to no known command
	other.ID = 0
	limit, kill, abandon := timer(machine.LimitTimer), timer(machine.KillTimer), timer(machine.AbandonTimer)
	return map[string][]machine.Event{
		"killed": {
			exited, exited, started, limit, stop(64), stop(64), kill, abandon, ended, other, emptied,
		},
		"lost": {
			exited, exited, started, limit, stop(64), stop(64), kill, abandon, machine.CommandLost{ID: id}, other, emptied,
		},
		"not started": {exited, exited, stop(64), stop(64), limit, failed, emptied},
		"delayed, and then killed": {
			exited, exited, started, lacking, started, limit, stop(64), stop(64), kill, abandon, ended, other, emptied,
		},
		"delayed by its limit": {
			exited, exited, limit, started, limit, stop(64), stop(64), kill, abandon, ended, other, emptied,
		},
		"withdrawn": {exited, machine.Withdrawn{ID: id, Left: math.MinInt64}},
	}
}

// runEvents returns the events of a run itself, each as often as it can happen. It does not return the events of the
// steps of the schedule.
func runEvents() []machine.Event {
	started := machine.TargetStarted{PID: math.MaxInt32, Start: math.MaxUint64}
	failed := machine.TargetFailed{Status: 255, Err: cleanup.Text(longest(10000))}
	ended := machine.TargetEnded{
		Ending: machine.Ending{Code: 255, Signal: 64},
		After:  math.MinInt64,
		Usage: &machine.Usage{
			UserMS: -math.MaxFloat64, SystemMS: -math.MaxFloat64, MaxRSSKB: math.MinInt64,
			MinorFaults: math.MinInt64, MajorFaults: math.MinInt64,
			BlocksRead: math.MinInt64, BlocksWritten: math.MinInt64,
			VoluntarySwitches: math.MinInt64, InvoluntarySwitches: math.MinInt64,
		},
	}
	recovered := machine.Recovered{After: math.MinInt64}
	return []machine.Event{
		started, started, failed, ended, ended,
		machine.TimeUp{Name: machine.TimeoutTimer}, machine.TimeUp{Name: machine.DrainTimer},
		machine.TimeUp{Name: machine.DeadlineTimer},
		stop(2), stop(3), stop(15), stop(2), stop(3), stop(15),
		machine.TreeEmptied{}, machine.TreeEmptied{},
		machine.Relayed{}, machine.Relayed{}, machine.Relayed{},
		machine.PeerEnded{}, machine.PeerEnded{},
		recovered, recovered, machine.Retried{}, machine.RetriedUnstarted{},
	}
}

func TestRoom_ofCommand(t *testing.T) {
	for name, life := range lives(machine.MaxCommands) {
		checkRoom(t, name, recordsOf(t, life...), perCommand)
	}
}

func TestRoom_ofRun(t *testing.T) {
	const steps = 3
	run := machine.New(machine.Policy{Schedule: make([]machine.Step, steps)}, nil, nil)
	ofRun := recordsOf(t, runEvents()...)
	checkRoom(t, "the run", ofRun, perRun)
	checkRoom(t, "a step", recordsOf(t, machine.TimeUp{Name: machine.GraceTimer}), perStep)
	checkRoom(t, "a signal", recordsOf(t, reportedSignal), perSignal)
	checkRoom(t, "Room", ofRun, int(Room(run, MaxSignals))-steps*perStep-MaxSignals*perSignal)
}

// checkRoom fails the test unless the records take at most room bytes in a ledger. name is for messages.
func checkRoom(t *testing.T, name string, records []json.RawMessage, room int) {
	t.Helper()
	l, size := inMemory(t)
	appendAll(t, l, records...)
	if size() > room {
		t.Errorf("%s: %d bytes, more than %d", name, size(), room)
	}
	t.Logf("%s: %d bytes of %d", name, size(), room)
}

// randomText returns a text of characters that JSON encodes in different ways.
func randomText(random *rand.Rand) string {
	kinds := []string{
		"a", `"`, `\`, "\n", "\t", "\x00", "\x01", "\x1f", "\x7f", "<", "ä", "\u2028", "\u2029", "😀",
		"\xff", "\xe2\x80", "\xed\xa0\x80",
	}
	some := kinds[random.IntN(len(kinds)):] // some texts are plain ASCII, and some are not UTF-8
	var b strings.Builder
	for range random.IntN(40) {
		b.WriteString(some[random.IntN(len(some))])
	}
	return b.String()
}

// RecordSize is never less than the size of the record. In at least one case it is at most 8 bytes more.
func TestRecord_size(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	words := func(n int) (words []string) {
		for range random.IntN(n) {
			words = append(words, randomText(random))
		}
		return words
	}
	l, size := inMemory(t)
	least := math.MaxInt
	for n := range 5000 {
		c := cleanup.Entry{When: math.MaxUint8}
		c.Command = cleanup.Command{Text: randomText(random), Args: words(4), Limit: math.MinInt64}
		c.Name, c.Dir, c.Key, c.Env = randomText(random), randomText(random), randomText(random), words(4)
		c.Awaited = cleanup.Process{PID: math.MinInt, Start: math.MaxUint64}
		switch n % 4 {
		case 0:
			c.EnvOf = math.MinInt
		case 1:
			c.Env = []string{}
		case 2:
			c = cleanup.Entry{Command: c.Command}
		}
		before := size()
		appendAll(t, l, recordsOf(t, machine.Registered{Entry: c, Left: math.MinInt64})...)
		got := size() - before
		if got > c.RecordSize() {
			t.Fatalf("%+v: its record has %d bytes, and its size is %d", c, got, c.RecordSize())
		}
		least = min(least, c.RecordSize()-got)
	}
	if least > 8 {
		t.Errorf("it is %d bytes more at the closest", least)
	}
}

// The JSON form of a shortened error has at most maxErrorText bytes. Short errors do not change, even if they are not
// UTF-8. A replay reads the shortened error.
func TestRecord_shortensErrors(t *testing.T) {
	for _, text := range []string{"", "no such file", "not UTF-8: \xff"} {
		if got := shortened(cleanup.Text(text), maxErrorText); string(got) != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		text := strings.Repeat(randomText(random)+"x", 1+random.IntN(300))
		got := shortened(cleanup.Text(text), maxErrorText)
		switch {
		case got.Size() > maxErrorText:
			t.Fatalf("%q: its size is %d", text, got.Size())
		case string(got) == text, string(got) == strings.ToValidUTF8(text, "\ufffd"):
		case got.Size() < maxErrorText-16, !utf8.ValidString(string(got)), !strings.HasSuffix(string(got), "…"):
			t.Fatalf("%q became %q, of size %d", text, got, got.Size())
		}
	}
	record := recordsOf(t, machine.CommandFailed{ID: 1, Err: cleanup.Text(longest(10000))})[0]
	e, err := header{Event: "command failed"}.event(record, machine.Run{})
	if err != nil || e.(machine.CommandFailed).Err != shortened(cleanup.Text(longest(10000)), maxErrorText) {
		t.Errorf("%+v, %v", e, err)
	}
}

// For a run whose arguments or schedule exceed every ledger, Start returns ErrTooLarge and records nothing.
func TestStart_tooLarge(t *testing.T) {
	run := machine.New(machine.Policy{}, nil, nil)
	start := func(run machine.Run, args int) (recorded int, err error) {
		l, size := inMemory(t)
		err = Start(l, Begin{ID: "id", Command: []cleanup.Text{cleanup.Text(strings.Repeat("x", args))}}, run, 0, Clock{})
		return size(), err
	}
	for args, want := range map[int]error{maxFirst - 64<<10: nil, maxFirst: ErrTooLarge} {
		if size, err := start(run, args); !errors.Is(err, want) || (size == 0) != (want != nil) {
			t.Errorf("%d bytes: %v, %d bytes are recorded", args, err, size)
		}
	}
	steps := machine.New(machine.Policy{Schedule: make([]machine.Step, maxFirst/perStep)}, nil, nil)
	if size, err := start(steps, 1); !errors.Is(err, ErrTooLarge) || size > 0 {
		t.Errorf("a long schedule: %v, %d bytes are recorded", err, size)
	}
}
