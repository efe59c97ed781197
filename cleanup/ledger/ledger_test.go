package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"graceful/cleanup"
)

// TestMain also runs in a second process, which inherits the ledger as descriptor 3 (see inherit). That process appends
// a record, prints the error, and exits when its standard input is closed.
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

// skip skips a test, or fails it if skips are forbidden.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("GRACEFUL_TEST_NO_SKIP") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// makeDir creates a state directory for a test.
func makeDir(t testing.TB) *Dir {
	t.Helper()
	d, err := MakeDir(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// file is the name of a ledger in tests.
const file = "a.ledger"

// openWith creates a ledger file with the given content and opens it.
func openWith(t testing.TB, d *Dir, content []byte) *Ledger {
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

// content returns the content of the ledger's file.
func content(t testing.TB, l *Ledger) []byte {
	t.Helper()
	got, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// lines returns the content of an undamaged ledger with these records.
func lines(records ...string) []byte {
	var b bytes.Buffer
	for _, r := range records {
		fmt.Fprintf(&b, "%s\n", encodeLine([]byte(r)))
	}
	return b.Bytes()
}

// wantRecords fails the test unless the ledger contains exactly these records.
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

// appendAll appends records that have a JSON form.
func appendAll(t testing.TB, l *Ledger, records ...any) {
	t.Helper()
	for _, r := range records {
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
	}
}

// sampleRecords are three records. The last one looks like a line of a ledger.
var sampleRecords = []string{`{"run":1,"args":["a","ä","<&>"]}`, `"second"`, `{"sum":"01234567","record":[3]}`}

func TestAppend_inMemoryAndInAFile(t *testing.T) {
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
		third := json.RawMessage("{\n\"sum\": \"01234567\",\"record\":[3]}")
		appendAll(t, l, json.RawMessage(sampleRecords[0]), "second", third)
		wantRecords(t, l, sampleRecords...)
		if err := l.Append(func() {}); err == nil {
			t.Error("Append accepted a function")
		}
		appendAll(t, l, nil)
		wantRecords(t, l, append(sampleRecords, "null")...)
	}
	if inFile.Path() == "" || !bytes.Equal(content(t, inFile), lines(append(sampleRecords, "null")...)) {
		t.Errorf("%s has %s", inFile.Path(), content(t, inFile))
	}
	// The format must not change, because later versions read ledgers of earlier versions. The checksum follows RFC
	// 3720.
	if got := string(encodeLine([]byte("123456789"))); got != `{"sum":"e3069283","record":123456789}` {
		t.Errorf("a line is %s", got)
	}
}

func TestAppend_beforeAnyRead(t *testing.T) {
	l := openWith(t, makeDir(t), lines(sampleRecords...))
	appendAll(t, l, 4)
	wantRecords(t, l, append(sampleRecords, "4")...)
}

func TestAppend_keepsEveryByteOfAText(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	type record struct {
		T cleanup.Text            `json:"t"`
		L []cleanup.Text          `json:"l"`
		P *cleanup.Text           `json:"p"`
		M map[string]cleanup.Text `json:"m"`
	}
	l := openWith(t, makeDir(t), nil)
	defer l.Close()
	var want []record
	for _, s := range []cleanup.Text{
		"", "plain", "ä€😀", "<&>\u2028", "a\x00b", "\"\\", "\ufffd", "\ufffd\xff", "\xff", "a\xc3", "\xed\xa0\x80",
		`{"base64":"YQ=="}`, "null", cleanup.Text(all[:128]), cleanup.Text(all),
	} {
		r := record{s, []cleanup.Text{s, s}, &s, map[string]cleanup.Text{"k": s}}
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

func TestAppend_escapesOnlyWhatItMust(t *testing.T) {
	l := openWith(t, makeDir(t), nil)
	defer l.Close()
	appendAll(t, l, []cleanup.Text{"a && b > ä", "\xff"})
	wantRecords(t, l, `["a && b > ä",{"base64":"/w=="}]`)
}
