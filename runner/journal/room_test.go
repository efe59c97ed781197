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

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/forward"
	"graceful/runner/machine"

	"golang.org/x/sys/unix"
)

// inMemory is a ledger in memory, and what it has so far, in bytes.
func inMemory(t *testing.T) (book *ledger.Ledger, size func() int) {
	t.Helper()
	book, err := ledger.InMemory()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("there is no ledger in memory")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close() })
	return book, func() int {
		var st unix.Stat_t
		if err := unix.Fstat(book.FD(), &st); err != nil {
			t.Fatal(err)
		}
		return int(st.Size)
	}
}

// late is a moment whose text is as long as any.
var late = time.Date(2026, 11, 24, 16, 54, 15, 123456789, time.FixedZone("", 5*3600+30*60))

// keep appends records.
func keep(t *testing.T, book *ledger.Ledger, records ...json.RawMessage) {
	t.Helper()
	for _, r := range records {
		if err := book.Append(r); err != nil {
			t.Fatalf("%.100s: %v", r, err)
		}
	}
}

// recordsOf are the records of events that are all recorded, with the longest times that there are.
func recordsOf(t *testing.T, events ...machine.Event) (records []json.RawMessage) {
	t.Helper()
	for _, e := range events {
		r, err := Record(e, true, true, Clock{late, math.MaxInt64})
		if err != nil || r == nil {
			t.Fatalf("%T is not recorded: %v", e, err)
		}
		records = append(records, r)
	}
	return records
}

// passed is a signal that is recorded for the report alone.
var passed = machine.Signalled{Signal: 64, Meaning: forward.Pass}

// stop is a stop signal.
func stop(sig int) machine.Event { return machine.Signalled{Signal: sig, Meaning: forward.Stop} }

// worst is text that takes as much room as any of its length.
func worst(n int) string { return strings.Repeat("\x01", n) }

// lives are the longest ways from the registration of a command to its end.
func lives(id int) map[string][]machine.Event {
	const pid, start = math.MaxInt32, math.MaxUint64
	stopped, ending := stop(64), machine.Ending{Code: 255, Signal: 64}
	return map[string][]machine.Event{
		"killed": {
			machine.Exited{ID: id}, machine.Exited{ID: id}, machine.CommandStarted{ID: id, PID: pid, Start: start}, machine.CommandTimer{ID: id, Name: machine.LimitTimer}, stopped, stopped,
			machine.CommandTimer{ID: id, Name: machine.KillTimer}, machine.CommandTimer{ID: id, Name: machine.AbandonTimer},
			machine.CommandEnded{ID: id, Ending: ending, Unseen: true}, machine.CommandEnded{ID: 0, Ending: ending, Unseen: true}, machine.TreeEmptied{},
		},
		"lost": {
			machine.Exited{ID: id}, machine.Exited{ID: id}, machine.CommandStarted{ID: id, PID: pid, Start: start}, machine.CommandTimer{ID: id, Name: machine.LimitTimer}, stopped, stopped,
			machine.CommandTimer{ID: id, Name: machine.KillTimer}, machine.CommandTimer{ID: id, Name: machine.AbandonTimer}, machine.CommandLost{ID: id}, machine.CommandEnded{ID: 0, Ending: ending, Unseen: true}, machine.TreeEmptied{},
		},
		"not started": {machine.Exited{ID: id}, machine.Exited{ID: id}, stopped, stopped, machine.CommandTimer{ID: id, Name: machine.LimitTimer}, machine.CommandFailed{ID: id, Err: cleanup.Text(worst(10000)), Transient: false}, machine.TreeEmptied{}},
		"withdrawn":   {machine.Exited{ID: id}, machine.Withdrawn{ID: id, Left: math.MinInt64}},
	}
}

// runEvents are the events of a run itself, each as often as it can come, but for the steps of its schedule.
func runEvents() []machine.Event {
	usage := &machine.Usage{UserMS: -math.MaxFloat64, SystemMS: -math.MaxFloat64, MaxRSSKB: math.MinInt64, MinorFaults: math.MinInt64, MajorFaults: math.MinInt64, BlocksRead: math.MinInt64, BlocksWritten: math.MinInt64, VoluntarySwitches: math.MinInt64, InvoluntarySwitches: math.MinInt64}
	return []machine.Event{
		machine.TargetStarted{PID: math.MaxInt32, Start: math.MaxUint64}, machine.TargetStarted{PID: math.MaxInt32, Start: math.MaxUint64},
		machine.TargetFailed{Status: 255, Err: cleanup.Text(worst(10000))}, machine.TargetEnded{Ending: machine.Ending{Code: 255, Signal: 64}, After: math.MinInt64, Usage: usage}, machine.TargetEnded{Ending: machine.Ending{Code: 255, Signal: 64}, After: math.MinInt64, Usage: usage},
		machine.TimeUp{Name: machine.TimeoutTimer}, machine.TimeUp{Name: machine.DrainTimer}, machine.TimeUp{Name: machine.DeadlineTimer}, stop(2), stop(3), stop(15), stop(2), stop(3), stop(15),
		machine.TreeEmptied{}, machine.TreeEmptied{}, machine.Relayed{}, machine.Relayed{}, machine.Relayed{}, machine.Orphaned{}, machine.Orphaned{},
		machine.Recovered{After: math.MinInt64}, machine.Recovered{After: math.MinInt64}, machine.Retried{},
	}
}

func TestTheEventsOfACommandFitIntoItsRoom(t *testing.T) {
	for name, life := range lives(machine.MaxCommands) {
		book, size := inMemory(t)
		keep(t, book, recordsOf(t, life...)...)
		if size() > perCommand {
			t.Errorf("%s: %d bytes, more than %d", name, size(), perCommand)
		}
		t.Logf("%s: %d bytes of %d", name, size(), perCommand)
	}
}

func TestTheEventsOfARunFitIntoItsRoom(t *testing.T) {
	for name, c := range map[string]struct {
		records []json.RawMessage
		room    int
	}{
		"the run":            {recordsOf(t, runEvents()...), perRun},
		"a step":             {recordsOf(t, machine.TimeUp{Name: machine.GraceTimer}), perStep},
		"a signal":           {recordsOf(t, passed), perSignal},
		"the run, and steps": {recordsOf(t, runEvents()...), int(Room(machine.New(machine.Policy{Schedule: make([]machine.Step, 3)}, nil, nil), MaxSignals)) - 3*perStep - MaxSignals*perSignal},
	} {
		book, size := inMemory(t)
		keep(t, book, c.records...)
		if size() > c.room {
			t.Errorf("%s: %d bytes, more than %d", name, size(), c.room)
		}
		t.Logf("%s: %d bytes of %d", name, size(), c.room)
	}
}

// randomText is text of all kinds of characters.
func randomText(random *rand.Rand) string {
	kinds := []string{
		"a", `"`, `\`, "\n", "\t", "\x00", "\x01", "\x1f", "\x7f", "<", "ä", "\u2028", "\u2029", "😀", "\xff", "\xe2\x80", "\xed\xa0\x80",
	}
	some := kinds[random.IntN(len(kinds)):] // not every text has all of them
	var b strings.Builder
	for range random.IntN(40) {
		b.WriteString(some[random.IntN(len(some))])
	}
	return b.String()
}

// The size of a registration is never less than what its record takes, and not much more than the most.
func TestSizeOfIsNoLessThanTheRecord(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	words := func(n int) (words []string) {
		for range random.IntN(n) {
			words = append(words, randomText(random))
		}
		return words
	}
	book, size := inMemory(t)
	least := math.MaxInt
	for n := range 5000 {
		c := cleanup.Entry{When: math.MaxUint8, Command: cleanup.Command{Text: randomText(random), Args: words(4), Limit: math.MinInt64}}
		c.Name, c.Dir, c.Key, c.Env = randomText(random), randomText(random), randomText(random), words(4)
		c.Exits = cleanup.Process{PID: math.MinInt, Start: math.MaxUint64}
		switch n % 4 {
		case 0:
			c.EnvOf = math.MinInt
		case 1:
			c.Env = []string{}
		case 2:
			c = cleanup.Entry{Command: c.Command}
		}
		before := size()
		keep(t, book, recordsOf(t, machine.Registered{Entry: c, Left: math.MinInt64})...)
		got := size() - before
		if got > c.RecordSize() {
			t.Fatalf("%+v: its record has %d bytes, and its size is %d", c, got, c.RecordSize())
		}
		least = min(least, c.RecordSize()-got)
	}
	if least > 8 {
		t.Errorf("it is %d bytes more at the least", least)
	}
}

func TestErrorsAreShortenedInRecords(t *testing.T) {
	for _, text := range []string{"", "no such file", "not UTF-8: \xff"} {
		if got := shortened(cleanup.Text(text)); string(got) != text {
			t.Errorf("%q has become %q", text, got)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		text := strings.Repeat(randomText(random)+"x", 1+random.IntN(300))
		got := shortened(cleanup.Text(text))
		switch {
		case got.Size() > maxErrorText:
			t.Fatalf("%q: its size is %d", text, got.Size())
		case string(got) == text, string(got) == strings.ToValidUTF8(text, "\ufffd"):
		case got.Size() < maxErrorText-16, !utf8.ValidString(string(got)), !strings.HasSuffix(string(got), "…"):
			t.Fatalf("%q has become %q, of size %d", text, got, got.Size())
		}
	}
	// A process that resumes the run reads it so.
	record := recordsOf(t, machine.CommandFailed{ID: 1, Err: cleanup.Text(worst(10000))})[0]
	e, err := header{Event: "command failed"}.event(record, machine.Run{})
	if err != nil || e.(machine.CommandFailed).Err != shortened(cleanup.Text(worst(10000))) {
		t.Errorf("%+v, %v", e, err)
	}
}
