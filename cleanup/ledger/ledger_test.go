package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The test binary is also another process, which has inherited the ledger on descriptor 3. It appends a record, says
// so, and ends when its input does.
func TestMain(m *testing.M) {
	if path, ok := os.LookupEnv("LEDGER_TEST"); ok {
		l, err := Inherited(3, path)
		if err == nil {
			err = l.Append("another")
		}
		fmt.Println(err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("GRACEFUL_TEST_NO_SKIP") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func makeDir(t testing.TB) *Dir {
	t.Helper()
	d, err := MakeDir(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

const file = "a.ledger"

// holding is a ledger in a file with that content, and a way to see what the file has.
func holding(t testing.TB, d *Dir, content []byte) *Ledger {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.path, file), content, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := d.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func content(t testing.TB, l *Ledger) []byte {
	t.Helper()
	got, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// lines is a good ledger.
func lines(records ...string) []byte {
	var b bytes.Buffer
	for _, r := range records {
		fmt.Fprintf(&b, "%s\n", wrap([]byte(r)))
	}
	return b.Bytes()
}

func wantRecords(t testing.TB, l *Ledger, want ...string) {
	t.Helper()
	records, err := l.Records()
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, r := range records {
		got = append(got, string(r))
	}
	if d := cmp.Diff(append([]string{}, want...), got); d != "" {
		t.Fatalf("records (-want +got):\n%s", d)
	}
}

func appendAll(t testing.TB, l *Ledger, records ...any) {
	t.Helper()
	for _, r := range records {
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
	}
}

var three = []string{`{"run":1,"args":["a","ä","<&>"]}`, `"second"`, `{"sum":"01234567","record":[3]}`}

func TestWhatIsAppendedIsReadInMemoryAndInAFile(t *testing.T) {
	inFile, err := makeDir(t).Take(file)
	if err != nil {
		t.Fatal(err)
	}
	ledgers := []*Ledger{inFile}
	if inMemory, err := InMemory(); err == nil {
		ledgers = append(ledgers, inMemory)
	} else if runtime.GOOS == "linux" || !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	for _, l := range ledgers {
		defer l.Close()
		wantRecords(t, l)
		appendAll(t, l, json.RawMessage(three[0]), "second", json.RawMessage("{\n\"sum\": \"01234567\",\"record\":[3]}"))
		wantRecords(t, l, three...)
		if err := l.Append(func() {}); err == nil {
			t.Error("a function was recorded")
		}
		appendAll(t, l, nil)
		wantRecords(t, l, append(three, "null")...)
	}
	if inFile.Path() == "" || !bytes.Equal(content(t, inFile), lines(append(three, "null")...)) {
		t.Errorf("%s has %s", inFile.Path(), content(t, inFile))
	}
	// The format, for ledgers that an earlier version has written. The sum is that of RFC 3720.
	if got := string(wrap([]byte("123456789"))); got != `{"sum":"e3069283","record":123456789}` {
		t.Errorf("a line is %s", got)
	}
}

func TestALedgerThatIsNotEmptyIsGoneOnWithUnread(t *testing.T) {
	l := holding(t, makeDir(t), lines(three...))
	appendAll(t, l, 4)
	wantRecords(t, l, append(three, "4")...)
}

func TestATornTailIsToleratedAtEveryByte(t *testing.T) {
	d, whole := makeDir(t), lines(three...)
	for n := range len(whole) + 1 {
		l := holding(t, d, whole[:n])
		records := three[:bytes.Count(whole[:n], []byte("\n"))]
		wantRecords(t, l, records...)
		if !bytes.Equal(content(t, l), whole[:n]) {
			t.Fatalf("reading %d bytes changed them", n)
		}
		appendAll(t, l, 4, 5)
		wantRecords(t, l, append(records[:len(records):len(records)], "4", "5")...)
		if want := lines(append(records[:len(records):len(records)], "4", "5")...); !bytes.Equal(content(t, l), want) {
			t.Fatalf("after %d bytes the file has %q", n, content(t, l))
		}
		l.Close()
	}
}

func TestDamageIsAnErrorUnlessInTheLastRecord(t *testing.T) {
	d, whole := makeDir(t), lines(three...)
	line := 1
	for i, b := range whole {
		for _, bad := range []byte{b ^ 1, b ^ 0x20, b ^ 0x80, 0, ' ', '\n', '"', '}'} {
			if bad == b {
				continue
			}
			damaged := bytes.Clone(whole)
			damaged[i] = bad
			l := holding(t, d, damaged)
			if line == 3 {
				wantRecords(t, l, three[:2]...)
				appendAll(t, l, 4)
				wantRecords(t, l, three[0], three[1], "4")
			} else {
				_, err := l.Records()
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprintf(" line %d:", line)) {
					t.Errorf("byte %d of line %d is %q: error %v", i, line, bad, err)
				}
				for range 2 {
					if err := l.Append(4); !errors.Is(err, ErrDamaged) {
						t.Errorf("byte %d is %q: appending: %v", i, bad, err)
					}
				}
				if !bytes.Equal(content(t, l), damaged) {
					t.Errorf("byte %d is %q: appending changed the file", i, bad)
				}
			}
			l.Close()
		}
		if b == '\n' {
			line++
		}
	}
}

func TestWhatAPowerCutLeavesIsTolerated(t *testing.T) {
	d, nul := makeDir(t), make([]byte, 5000)
	good, torn := lines(three[:2]...), lines(three[2])
	for name, left := range map[string][]byte{
		"NUL bytes":                  nul,
		"a torn record and NULs":     append(torn[:len(torn)-3:len(torn)-3], nul...),
		"a hole in the last record":  append(append([]byte{}, nul...), torn[20:]...),
		"several lines of no record": []byte("x\n{}\n\n{\"sum\":\"\n"),
		"a sum that fits no JSON":    lines("{"),
		"a blank line":               []byte("\n"),
	} {
		t.Run(name, func(t *testing.T) {
			l := holding(t, d, append(good[:len(good):len(good)], left...))
			defer l.Close()
			wantRecords(t, l, three[:2]...)
			appendAll(t, l, 3)
			if want := lines(three[0], three[1], "3"); !bytes.Equal(content(t, l), want) {
				t.Errorf("the file has %q", content(t, l))
			}
		})
	}
	l := holding(t, d, append(append(good[:len(good):len(good)], nul...), torn...))
	defer l.Close()
	if _, err := l.Records(); !errors.Is(err, ErrDamaged) {
		t.Errorf("NULs before a record: %v", err)
	}
}

// failing writes so many bytes and then no more.
func failing(room int, err error) func(int, []byte, int64) (int, error) {
	return func(fd int, p []byte, at int64) (int, error) {
		n := min(room, len(p))
		if n == 0 {
			return -1, err
		}
		room -= n
		return unix.Pwrite(fd, p[:n], at)
	}
}

func TestAFailedAppendIsCaughtUpByTheNext(t *testing.T) {
	d := makeDir(t)
	for room := range len(lines("2", "3")) {
		l := holding(t, d, lines("1"))
		l.write = failing(room, unix.ENOSPC)
		first, second := l.Append(2), l.Append(3)
		if got := room >= len(lines("2")); (first == nil) != got || !errors.Is(second, unix.ENOSPC) {
			t.Fatalf("room for %d bytes: errors %v, %v", room, first, second)
		}
		_, err := l.Records() // moves nothing
		l.write = unix.Pwrite
		appendAll(t, l, 4)
		if want := lines("1", "2", "3", "4"); err != nil || !bytes.Equal(content(t, l), want) {
			t.Fatalf("room for %d bytes: %v, the file has %q", room, err, content(t, l))
		}
		l.Close()
	}
}

func TestWhatWasNotSyncedIsWrittenAgain(t *testing.T) {
	l := holding(t, makeDir(t), nil)
	defer l.Close()
	var written bytes.Buffer
	l.write = func(fd int, p []byte, at int64) (int, error) {
		written.Write(p)
		return unix.Pwrite(fd, p, at)
	}
	syncs, result := 0, []error{unix.EINTR, unix.EIO, nil}
	l.sync = func(int) error { syncs++; return result[syncs-1] }
	if err := l.Append(1); !errors.Is(err, unix.EIO) {
		t.Errorf("error %v", err)
	}
	appendAll(t, l, 2)
	wantRecords(t, l, "1", "2")
	if want := lines("1", "1", "2"); syncs != 3 || !bytes.Equal(written.Bytes(), want) {
		t.Errorf("%d syncs; written was %q", syncs, written.String())
	}
}

func TestInterruptedAndShortWritesAreGoneOnWith(t *testing.T) {
	l := holding(t, makeDir(t), nil)
	defer l.Close()
	calls := 0
	l.write = func(fd int, p []byte, at int64) (int, error) {
		switch calls++; calls % 3 {
		case 0:
			return -1, unix.EINTR
		case 1:
			return -1, unix.EAGAIN
		}
		return unix.Pwrite(fd, p[:1], at)
	}
	appendAll(t, l, 1, 2)
	wantRecords(t, l, "1", "2")

	l.write = failing(0, unix.EAGAIN)
	if err := l.Append(3); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("busy for ever: %v", err)
	}
	l.write = func(int, []byte, int64) (int, error) { return 0, nil }
	if err := l.Append(4); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("nothing is ever written: %v", err)
	}
	l.write = unix.Pwrite
	appendAll(t, l, 5)
	wantRecords(t, l, "1", "2", "3", "4", "5")
}

// The second is on the same description, as in a process that has inherited the ledger.
func TestTwoThatShareALedgerGoOnWhereTheOtherStopped(t *testing.T) {
	one := holding(t, makeDir(t), nil)
	defer one.Close()
	fd, err := unix.Dup(one.FD())
	if err != nil {
		t.Fatal(err)
	}
	two, err := Inherited(fd, one.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	wantRecords(t, two)
	appendAll(t, one, 1)
	appendAll(t, two, 2)
	appendAll(t, one, 3, 4)
	wantRecords(t, two, "1", "2", "3", "4")
	appendAll(t, two, 5)

	// One has died in the middle of a record.
	if _, err := unix.Pwrite(one.fd, []byte(head), two.end); err != nil {
		t.Fatal(err)
	}
	appendAll(t, two, 6)
	if want := lines("1", "2", "3", "4", "5", "6"); !bytes.Equal(content(t, one), want) {
		t.Errorf("the file has %q", content(t, one))
	}

	// What was damaged since is not written over.
	damaged := append(lines("1", "2", "3", "4", "5", "6"), append([]byte("x\n"), lines("7")...)...)
	if err := os.WriteFile(one.path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := two.Append(8); !errors.Is(err, ErrDamaged) {
			t.Errorf("error %v", err)
		}
	}
	if !bytes.Equal(content(t, one), damaged) {
		t.Errorf("the file has %q", content(t, one))
	}
}

func TestReservedSpaceIsThereAndStays(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux reserves")
	}
	const space = 1 << 20
	one := holding(t, makeDir(t), append(lines("1"), "torn"...))
	defer one.Close()
	reserved := func() int64 {
		st, err := statOf(one.fd)
		if err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	for _, n := range []int64{-1, 0, space} {
		if err := one.Reserve(n); err != nil {
			t.Fatal(err)
		}
	}
	if reserved() == 0 {
		skip(t, "this file system reserves nothing")
	}
	wantRecords(t, one, "1")
	if !bytes.Equal(content(t, one), lines("1")) {
		t.Errorf("reserving left %q", content(t, one))
	}
	two, err := Inherited(one.FD(), one.Path())
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, two, 2)
	appendAll(t, one, 3)
	wantRecords(t, two, "1", "2", "3")
	if got := reserved(); got < space {
		t.Errorf("%d bytes are reserved, want %d", got, space)
	}
	for _, n := range []int64{space, 2 * space, space} { // more is reserved as it is asked for, and from the end on
		if err := one.Reserve(n); err != nil {
			t.Fatal(err)
		}
	}
	if got := reserved(); got < 2*space || got > 3*space {
		t.Errorf("%d bytes are reserved, want %d", got, 2*space)
	}
	// A tail that is cut off takes the space with it.
	if err := os.WriteFile(one.path, append(lines("1", "2", "3"), "torn"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := one.Reserve(2 * space); err != nil {
		t.Fatal(err)
	}
	if got := reserved(); got < 2*space {
		t.Errorf("%d bytes are reserved afterwards, want %d", got, 2*space)
	}
	wantRecords(t, one, "1", "2", "3")
	// A file that cannot be written to can reserve nothing.
	readOnly, err := os.Open(one.path)
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	if l, err := Inherited(int(readOnly.Fd()), one.path); err != nil || l.Reserve(space) == nil {
		t.Errorf("reserved on a descriptor for reading, %v", err)
	}
}

func TestALedgerThatIsTooLargeIsNeitherReadNorMade(t *testing.T) {
	l := holding(t, makeDir(t), nil)
	defer l.Close()
	if err := os.Truncate(l.path, MaxSize+1); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Records(); err == nil || !strings.Contains(err.Error(), "268435457 bytes are more") {
		t.Errorf("error %v", err)
	}
	// A stand-in for very many records.
	l.end = MaxSize - int64(len(lines("1")))
	if err := os.Truncate(l.path, l.end); err != nil {
		t.Fatal(err)
	}
	if err := l.Append("1"); err == nil || !strings.Contains(err.Error(), "are more") {
		t.Errorf("error %v", err)
	}
	appendAll(t, l, 1) // there is room for it, and the other was not kept
	if st, err := statOf(l.fd); err != nil || st.Size != MaxSize {
		t.Errorf("the file has %d bytes, %v", st.Size, err)
	}
}

func TestNothingIsReservedThatMaxSizeOrALimitForbids(t *testing.T) {
	inFile := holding(t, makeDir(t), lines("1"))
	defer inFile.Close()
	ledgers := []*Ledger{inFile}
	if inMemory, err := InMemory(); err == nil {
		defer inMemory.Close()
		appendAll(t, inMemory, 1)
		ledgers = append(ledgers, inMemory)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	have := int64(len(lines("1")))
	for _, l := range ledgers {
		if err := l.Reserve(MaxSize - have + 1); !errors.Is(err, ErrFull) {
			t.Errorf("%s: one byte more than MaxSize: %v", l, err)
		}
		if l.path == "" {
			if err := l.Reserve(MaxSize - have); err != nil {
				t.Errorf("MaxSize: %v", err)
			}
		}
		low := limit
		low.Cur = 1 << 20
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &low); err != nil {
			t.Fatal(err)
		}
		more, all := l.Reserve(1<<20-have+1), l.Reserve(1<<20-have)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		if more == nil || !strings.Contains(more.Error(), "no file may have more than 1048576 (ulimit -f)") || all != nil {
			t.Errorf("%s: one byte more than the limit: %v; the limit: %v", l, more, all)
		}
		wantRecords(t, l, "1")
	}
}

func TestWhatIsInheritedIsLookedAt(t *testing.T) {
	l := holding(t, makeDir(t), nil)
	defer l.Close()
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	for _, c := range []struct {
		fd        int
		path, err string
	}{
		{-1, "", "bad file descriptor"},
		{int(pipe.Fd()), "", "a FIFO, not a regular file"},
		{int(pipe.Fd()), l.path, "a FIFO, not a regular file"},
		{l.fd, file, "not absolute"},
	} {
		if _, err := Inherited(c.fd, c.path); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("descriptor %d, path %q: error %v, want one about %q", c.fd, c.path, err, c.err)
		}
	}
	if err := os.Chmod(l.path, 0o620); err != nil {
		t.Fatal(err)
	}
	if _, err := Inherited(l.fd, l.path); err == nil || !strings.Contains(err.Error(), "may write to it") {
		t.Errorf("a file for the group: error %v", err)
	}
}

func TestNoDescriptorLeaksIntoOtherPrograms(t *testing.T) {
	d := makeDir(t)
	l := holding(t, d, nil)
	defer l.Close()
	fd, err := unix.Dup(l.fd)
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := Inherited(fd, l.path)
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	fds := map[string]int{"directory": d.fd, "file": l.FD(), "inherited": inherited.FD()}
	if m, err := InMemory(); err == nil {
		defer m.Close()
		fds["in memory"] = m.FD()
	}
	for name, fd := range fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: descriptor flags %d, %v", name, flags, err)
		}
	}
}

// inherit starts another process that has the ledger, and returns when it has appended. It ends with the function.
func inherit(t *testing.T, l *Ledger) (end func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(l.FD())
	if err != nil {
		t.Fatal(err)
	}
	shared := os.NewFile(uintptr(fd), "ledger")
	defer shared.Close()
	c := exec.Command(self)
	c.Env = append(os.Environ(), "LEDGER_TEST="+l.Path(), "GORACE=atexit_sleep_ms=0")
	c.ExtraFiles = []*os.File{shared}
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said string
	if _, err := fmt.Fscanln(out, &said); err != nil || said != "<nil>" {
		t.Errorf("the other process said %s, %v", said, err)
	}
	return func() {
		in.Close()
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheLockIsHeldAsLongAsAnyProcessHasTheLedger(t *testing.T) {
	d := makeDir(t)
	l, err := d.Take(file)
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, "one")
	end := inherit(t, l)
	defer func() { end() }()
	wantRecords(t, l, `"one"`, `"another"`)
	l.Close()
	for _, open := range []func(string) (*Ledger, error){d.Open, d.Take} {
		if _, err := open(file); !errors.Is(err, ErrAlive) {
			t.Errorf("while another process has it: %v", err)
		}
	}
	end()
	end = func() {}
	again, err := d.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	wantRecords(t, again, `"one"`, `"another"`)
}

func TestALedgerInMemoryIsInherited(t *testing.T) {
	l, err := InMemory()
	if errors.Is(err, errors.ErrUnsupported) && runtime.GOOS != "linux" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	appendAll(t, l, "one")
	inherit(t, l)()
	appendAll(t, l, "two")
	wantRecords(t, l, `"one"`, `"another"`, `"two"`)
	if err := errors.Join(l.Remove(), l.SetAside(Interrupted), l.Reserve(4096)); err != nil || l.Path() != "" {
		t.Errorf("path %q, %v", l.Path(), err)
	}
}

func TestTextGoesThroughByteForByte(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	type record struct {
		T Text            `json:"t"`
		L []Text          `json:"l"`
		P *Text           `json:"p"`
		M map[string]Text `json:"m"`
	}
	l := holding(t, makeDir(t), nil)
	defer l.Close()
	var want []record
	for _, s := range []Text{
		"", "plain", "ä€😀", "<&>\u2028", "a\x00b", "\"\\", "\ufffd", "\ufffd\xff", "\xff", "a\xc3", "\xed\xa0\x80",
		`{"base64":"YQ=="}`, "null", Text(all[:128]), Text(all),
	} {
		r := record{s, []Text{s, s}, &s, map[string]Text{"k": s}}
		want = append(want, r)
		appendAll(t, l, r)
	}
	records, err := l.Records()
	if err != nil {
		t.Fatal(err)
	}
	var got []record
	for _, raw := range records {
		var r record
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		got = append(got, r)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestTextIsAsReadableAsCanBe(t *testing.T) {
	l := holding(t, makeDir(t), nil)
	defer l.Close()
	appendAll(t, l, []Text{"a && b > ä", "\xff"})
	wantRecords(t, l, `["a && b > ä",{"base64":"/w=="}]`)
}

// Encoders differ in what they escape (Python's json.dumps: all that is not ASCII).
func TestTextTakesEveryEscape(t *testing.T) {
	for escaped, want := range map[string]Text{
		`"\ufffd"`: "\ufffd", `"\uFFFD\u00e4"`: "\ufffdä", "\"\ufffd\\ufffd\"": "\ufffd\ufffd", `"\ud83d\ude00\uD83D\uDE00"`: "😀😀",
		`"\\ud800"`: `\ud800`, `"\\\\\u0041"`: `\\A`, `"\/\b\f\n\r\t\"\u0001\u001f"`: "/\b\f\n\r\t\"\x01\x1f",
	} {
		var got Text
		if err := json.Unmarshal([]byte(escaped), &got); err != nil || got != want {
			t.Errorf("%s was read as %q (%v), want %q", escaped, got, err, want)
		}
	}
}

func TestTextIsNothingButTheTwoForms(t *testing.T) {
	for _, bad := range []string{
		`null`, `1`, `true`, `[]`, `["a"]`, `{}`, `{"base64":null}`, `{"base64":1}`, `{"base64":"!"}`, `{"base64":"YQ"}`,
		`{"base64":"YR=="}`, `{"base64":"YQ==","a":"b"}`, `{"BASE64":"YQ=="}`, `{"a":"YQ=="}`, `"\ud800"`, "\"\xff\"",
		`"\udcff"`, `"a\ud83dx"`, `"\ud83d\u0041"`, `"\ud83d\n"`, `"\ude00\ud83d"`, `"\ufffd\udcff"`, "\"\\ufffd\xff\"",
	} {
		var got struct{ T Text }
		if err := json.Unmarshal([]byte(`{"T":`+bad+`}`), &got); err == nil {
			t.Errorf("%s was read as %q", bad, got.T)
		}
	}
}

func FuzzRecords(f *testing.F) {
	good := lines(three...)
	for _, data := range [][]byte{
		nil, good, good[:len(good)-1], good[5:], append(good, make([]byte, 9)...), append([]byte("x"), good...),
		[]byte(head + "00000000" + neck), []byte(head + head), lines("{"), lines(" 1 ", "\"\xff\"", "[1, 2]"),
	} {
		f.Add(data, []byte(`{"sum":"e3069283","record":123456789}`))
		f.Add(data, []byte(`1`))
	}
	f.Fuzz(func(t *testing.T, data, record []byte) {
		records, end, err := parse(data)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if again, e, err := parse(data[:end]); err != nil || e != end || len(again) != len(records) {
			t.Fatalf("without its tail: %q, %d, %v", again, e, err)
		}
		// No crash makes an error of a good ledger, nor other records.
		for cut := len(data); cut >= 0; cut -= 1 + len(data)/64 {
			some, _, err := parse(data[:cut])
			same := func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }
			if n := len(some); err != nil || n > len(records) || !slices.EqualFunc(some, records[:n], same) {
				t.Fatalf("%d bytes: %q, %v", cut, some, err)
			}
		}
		// What was read can be recorded again.
		l, err := InMemory()
		if err != nil {
			t.Skip(err)
		}
		defer l.Close()
		var want []string
		for _, r := range records {
			var b bytes.Buffer
			if err := json.Compact(&b, r); err != nil {
				t.Fatal(err)
			}
			want = append(want, b.String())
			appendAll(t, l, r)
		}
		wantRecords(t, l, want...)
		// Whatever stands before a record, it is read or its loss is told.
		if !json.Valid(record) || bytes.Contains(record, []byte("\n")) {
			return
		}
		all := append(bytes.Clone(data), lines(string(record))...)
		records, end, err = parse(all)
		if err == nil && (int(end) != len(all) || !bytes.Equal(records[len(records)-1], record)) {
			t.Fatalf("the last record is lost: %q", records)
		}
	})
}
