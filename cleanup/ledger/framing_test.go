package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestRecords_ofAFileThatIsCutShort(t *testing.T) {
	d, whole := makeDir(t), lines(sampleRecords...)
	for n := range len(whole) + 1 {
		l := openWith(t, d, whole[:n])
		records := sampleRecords[:bytes.Count(whole[:n], []byte("\n"))]
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

func TestRecords_ofADamagedFile(t *testing.T) {
	d, whole := makeDir(t), lines(sampleRecords...)
	line := 1
	for i, b := range whole {
		for _, bad := range []byte{b ^ 1, b ^ 0x20, b ^ 0x80, 0, ' ', '\n', '"', '}'} {
			if bad == b {
				continue
			}
			damaged := bytes.Clone(whole)
			damaged[i] = bad
			l := openWith(t, d, damaged)
			if line == 3 {
				wantRecords(t, l, sampleRecords[:2]...)
				appendAll(t, l, 4)
				wantRecords(t, l, sampleRecords[0], sampleRecords[1], "4")
			} else {
				_, err := l.Records()
				if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), fmt.Sprintf(" line %d:", line)) {
					t.Errorf("byte %d of line %d is %q: error %v", i, line, bad, err)
				}
				for range 2 {
					if err := l.Append(4); !errors.Is(err, errDamaged) {
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

func TestRecords_afterAPowerCut(t *testing.T) {
	d, nul := makeDir(t), make([]byte, 5000)
	good, torn := lines(sampleRecords[:2]...), lines(sampleRecords[2])
	for name, left := range map[string][]byte{
		"NUL bytes":                   nul,
		"a torn record and NUL bytes": append(torn[:len(torn)-3:len(torn)-3], nul...),
		"a hole in the last record":   append(append([]byte{}, nul...), torn[20:]...),
		"several lines of no record":  []byte("x\n{}\n\n{\"sum\":\"\n"),
		"a sum that fits no JSON":     lines("{"),
		"a blank line":                []byte("\n"),
	} {
		t.Run(name, func(t *testing.T) {
			l := openWith(t, d, append(good[:len(good):len(good)], left...))
			defer l.Close()
			wantRecords(t, l, sampleRecords[:2]...)
			appendAll(t, l, 3)
			if want := lines(sampleRecords[0], sampleRecords[1], "3"); !bytes.Equal(content(t, l), want) {
				t.Errorf("the file has %q", content(t, l))
			}
		})
	}
	l := openWith(t, d, append(append(good[:len(good):len(good)], nul...), torn...))
	defer l.Close()
	if _, err := l.Records(); !errors.Is(err, errDamaged) {
		t.Errorf("NUL bytes before a record: %v", err)
	}
}

func FuzzRecords(f *testing.F) {
	good := lines(sampleRecords...)
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
			if !errors.Is(err, errDamaged) {
				t.Fatal(err)
			}
			return
		}
		if again, e, err := parse(data[:end]); err != nil || e != end || len(again) != len(records) {
			t.Fatalf("without the rest: %q, %d, %v", again, e, err)
		}
		// Truncating an undamaged ledger causes no error and changes no record before the cut.
		for cut := len(data); cut >= 0; cut -= 1 + len(data)/64 {
			some, _, err := parse(data[:cut])
			same := func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }
			if n := len(some); err != nil || n > len(records) || !slices.EqualFunc(some, records[:n], same) {
				t.Fatalf("%d bytes: %q, %v", cut, some, err)
			}
		}
		// Records that were read can be appended again.
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
		// For any bytes before a record, parse returns the record or an error.
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
