package runner

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"graceful/cleanup"
	"graceful/cleanup/ledger"

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

// keep appends records with the longest times that there are.
func keep(t *testing.T, book *ledger.Ledger, records ...record) {
	t.Helper()
	for _, r := range records {
		r.Time, r.Clock = late, math.MaxInt64
		if err := book.Append(r); err != nil {
			t.Fatalf("%s %d: %v", r.Event, r.ID, err)
		}
	}
}

// recordsOf are the records of events that are all recorded.
func recordsOf(t *testing.T, events ...event) (records []record) {
	t.Helper()
	for _, e := range events {
		r, keep := recordOf(e, true)
		if !keep {
			t.Fatalf("%T is not recorded", e)
		}
		records = append(records, r)
	}
	return records
}

// worst is text that takes as much room as any of its length.
func worst(n int) string { return strings.Repeat("\x01", n) }

// lives are the longest ways from the registration of a command to its end.
func lives(id int) map[string][]event {
	const pid, start = math.MaxInt32, math.MaxUint64
	stopped, ending := stop(64), Ending{255, 64}
	return map[string][]event{
		"killed": {
			exited{id}, exited{id}, commandStarted{id, pid, start}, commandTimer{id, limitTimer}, stopped, stopped,
			commandTimer{id, killTimer}, commandTimer{id, abandonTimer},
			commandEnded{id, ending, true}, commandEnded{0, ending, true}, treeEmptied{},
		},
		"lost": {
			exited{id}, exited{id}, commandStarted{id, pid, start}, commandTimer{id, limitTimer}, stopped, stopped,
			commandTimer{id, killTimer}, commandTimer{id, abandonTimer},
			commandLost{id}, commandEnded{0, ending, true}, treeEmptied{},
		},
		"not started": {
			exited{id}, exited{id}, stopped, stopped, commandTimer{id, limitTimer},
			commandFailed{id, worst(10000), false}, treeEmptied{},
		},
		"withdrawn": {exited{id}, withdrawn{id, math.MinInt64}},
	}
}

// runEvents are the events of a run itself, each as often as it can come, but for the steps of its schedule.
func runEvents() []event {
	const most = math.MinInt64 // it has one character more than the largest number
	usage := &Usage{-math.MaxFloat64, -math.MaxFloat64, most, most, most, most, most, most, most}
	ended := targetEnded{Ending{255, 64}, most, usage}
	return []event{
		targetStarted{math.MaxInt32, math.MaxUint64}, targetStarted{math.MaxInt32, math.MaxUint64},
		targetFailed{255, worst(10000)}, ended, ended, timeUp{timeoutTimer}, timeUp{drainTimer}, timeUp{deadlineTimer},
		stop(2), stop(3), stop(15), stop(2), stop(3), stop(15),
		treeEmptied{}, treeEmptied{}, relayed{}, relayed{}, relayed{}, orphaned{}, orphaned{},
		recovered{most}, recovered{most}, retried{},
	}
}

func TestTheEventsOfACommandFitIntoItsRoom(t *testing.T) {
	for name, life := range lives(maxCommands) {
		book, size := inMemory(t)
		keep(t, book, recordsOf(t, life...)...)
		if size() > perCommand {
			t.Errorf("%s: %d bytes, more than %d", name, size(), perCommand)
		}
		t.Logf("%s: %d bytes of %d", name, size(), perCommand)
	}
}

func TestTheEventsOfARunFitIntoItsRoom(t *testing.T) {
	reported := newRun("id", Config{Report: "r", Schedule: make([]Step, 3)})
	for name, c := range map[string]struct {
		records []record
		room    int
	}{
		"the run":                {recordsOf(t, runEvents()...), perRun},
		"a step":                 {recordsOf(t, timeUp{graceTimer}), perStep},
		"a signal":               {[]record{{Event: "signal", Signal: 64}}, perHistory / historyLimit},
		"a run with all of them": {recordsOf(t, runEvents()...), int(reported.room()) - 3*perStep - perHistory},
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
		"a", `"`, `\`, "\n", "\t", "\x00", "\x01", "\x1f", "\x7f", "<", "ä", "\u2028", "\u2029", "😀",
		"\xff", "\xe2\x80", "\xed\xa0\x80",
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
		command := cleanup.Command{Text: randomText(random), Args: words(4), Limit: math.MinInt64}
		c := cleanup.Entry{When: math.MaxUint8, Command: command}
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
		keep(t, book, recordsOf(t, registered{entry: c, left: math.MinInt64})...)
		got := size() - before
		if got > sizeOf(c) {
			t.Fatalf("%q: its record has %d bytes, and its size is %d", fmt.Sprintf("%+v", c), got, sizeOf(c))
		}
		least = min(least, sizeOf(c)-got)
	}
	if least > 8 {
		t.Errorf("it is %d bytes more at the least", least)
	}
}

func TestErrorsAreShortenedInRecords(t *testing.T) {
	for _, text := range []string{"", "no such file", "not UTF-8: \xff"} {
		if got := errorText(text); string(got) != text {
			t.Errorf("%q has become %q", text, got)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		text := strings.Repeat(randomText(random)+"x", 1+random.IntN(300))
		got := errorText(text)
		switch {
		case got.Size() > maxErrorText:
			t.Fatalf("%q: its size is %d", text, got.Size())
		case string(got) == text, string(got) == strings.ToValidUTF8(text, "\ufffd"):
		case got.Size() < maxErrorText-16, !utf8.ValidString(string(got)), !strings.HasSuffix(string(got), "…"):
			t.Fatalf("%q has become %q, of size %d", text, got, got.Size())
		}
	}
	// Who goes on with the run reads it so.
	r := recordsOf(t, commandFailed{1, worst(10000), false})[0]
	if e, err := r.event(Run{}); err != nil || e.(commandFailed).err != string(errorText(worst(10000))) {
		t.Errorf("%+v, %v", e, err)
	}
}

// A run that there would be no room for is an error, and nothing is recorded.
func TestTheFirstRecordHasItsRoomAndNoMore(t *testing.T) {
	for args, want := range map[int]error{maxFirst - 64<<10: nil, maxFirst: errTooLarge} {
		book, size := inMemory(t)
		err := begin(book, newRun("id", Config{Command: []string{strings.Repeat("x", args)}}), inherited{})
		if !errors.Is(err, want) || (size() == 0) != (want != nil) {
			t.Errorf("%d bytes: %v, %d bytes are recorded", args, err, size())
		}
	}
	book, size := inMemory(t)
	err := begin(book, newRun("id", Config{Command: []string{"x"}, Schedule: make([]Step, maxFirst/perStep)}), inherited{})
	if !errors.Is(err, errTooLarge) || size() > 0 {
		t.Errorf("a long schedule: %v, %d bytes are recorded", err, size())
	}
}
