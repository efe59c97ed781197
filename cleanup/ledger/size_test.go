package ledger

import (
	"math/rand/v2"
	"strings"
	"testing"

	"graceful/cleanup"
	"graceful/cleanup/eintr"
)

// pieces are bytes that have JSON forms of different kinds.
var pieces = []string{
	"a", " ", "\x7f", "<", ">", "&", "'", "/", `"`, `\`, "\b", "\f", "\n", "\r", "\t", "\x00", "\x01", "\x0b", "\x1b",
	"\x1f", "ä", "\u2027", "\u2028", "\u2029", "\u202a", "\ufeff", "\ufffd", "😀", "\xff", "\x80", "\xe2", "\xe2\x80",
	"\xa8", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80",
}

// wantSize fails the test unless Size and Overhead predict the length of a text's JSON form and of its line in a
// ledger.
func wantSize(t *testing.T, text string) {
	t.Helper()
	raw, err := cleanup.Text(text).MarshalJSON()
	if err != nil || len(raw) != cleanup.Text(text).Size() {
		t.Fatalf("%.200q: the size of %.200s is %d, not %d; %v", text, raw, len(raw), cleanup.Text(text).Size(), err)
	}
	type larger struct{ T cleanup.Text }
	record, err := cleanup.EncodeJSON(larger{cleanup.Text(text)})
	if err != nil || string(record) != `{"T":`+string(raw)+`}` {
		t.Fatalf("%.200q: in a record it is %.200s, not %.200s; %v", text, record, raw, err)
	}
	if line := len(encodeLine(raw)) + len("\n"); line != cleanup.Text(text).Size()+Overhead {
		t.Fatalf("%.200q: the line has %d bytes, not %d", text, line, cleanup.Text(text).Size()+Overhead)
	}
}

func TestTextSize(t *testing.T) {
	for c := range 256 {
		wantSize(t, string([]byte{byte(c)}))
		wantSize(t, strings.Repeat(string([]byte{byte(c)}), 1000))
		wantSize(t, string(rune(c)))
	}
	for _, a := range pieces {
		for _, b := range pieces {
			wantSize(t, a+b)
			wantSize(t, a+b+a)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		var b strings.Builder
		for range random.IntN(30) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		wantSize(t, b.String())
	}
}

func FuzzSize(f *testing.F) {
	f.Add(strings.Join(pieces, ""))
	f.Add(strings.Join(pieces[:25], ""))
	f.Fuzz(wantSize)
}

// A ledger grows by the size of the record and Overhead.
func TestOverhead(t *testing.T) {
	l, err := InMemory()
	if err != nil {
		skip(t, err.Error())
	}
	defer l.Close()
	want := 0
	for _, text := range append(pieces, strings.Join(pieces, "")) {
		appendAll(t, l, cleanup.Text(text))
		want += cleanup.Text(text).Size() + Overhead
		if st, err := eintr.Fstat(l.fd); err != nil || st.Size != int64(want) {
			t.Fatalf("%q: the ledger has %d bytes, want %d; %v", text, st.Size, want, err)
		}
	}
}
