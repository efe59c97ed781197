package ledger

import (
	"strings"
	"testing"
)

func TestFileName(t *testing.T) {
	for name, want := range map[string]string{
		"web-1_A.b": "web-1_A.b.ledger", "": "%.ledger", ".": "%2E.ledger", "..": "%2E..ledger", "..a": "%2E.a.ledger",
		"a/b": "a%2Fb.ledger", "%": "%25.ledger", "~": "%7E.ledger", "\x00\n": "%00%0A.ledger", "ä\xff": "%C3%A4%FF.ledger",
		strings.Repeat("a", 193): strings.Repeat("a", 193) + ".ledger",
		strings.Repeat("a", 194): strings.Repeat("a", 160) + "~0391cc060de6b7bf2ed66812362d4c67.ledger",
	} {
		if got := FileName(name); got != want {
			t.Errorf("%q becomes %s, want %s", name, got, want)
		}
	}
	seen := map[string]string{}
	see := func(name string) {
		got := FileName(name)
		if other, ok := seen[got]; ok {
			t.Fatalf("%q and %q become %s", name, other, got)
		}
		seen[got] = name
		if len(got) > maxName || got[0] == '.' || strings.ContainsAny(got, "/\x00") || !strings.HasSuffix(got, ext) {
			t.Fatalf("%q becomes %s", name, got)
		}
	}
	see("")
	for a := range 256 {
		see(string([]byte{byte(a)}))
		see(strings.Repeat(string([]byte{byte(a)}), 1000))
		for _, b := range []byte("a2E.%~/\xff") {
			see(string([]byte{byte(a), b}))
		}
	}
	for n := 3; n < 300; n++ {
		see(strings.Repeat("a", n))
		see(strings.TrimSuffix(FileName(strings.Repeat("b", n)), ext))
	}
}

// IsNameOf finds the ledgers of a name, with and without an id after the name, and not those of similar names.
func TestIsNameOf(t *testing.T) {
	const id = ".0123456789abcdef0123456789abcdef"
	for _, name := range []string{
		"", ".", "a", "make", "make.x", "a/b", "\xff", "~", "%", strings.Repeat("x", 158), strings.Repeat("x", 160),
		strings.Repeat("x", 161), strings.Repeat("x", 193), strings.Repeat("x", 500), strings.Repeat("\xff", 60),
	} {
		for _, file := range []string{FileName(name), FileName(name + id)} {
			if name != "" && !IsNameOf(file, name, len(id)) {
				t.Errorf("%s is not found as a ledger of %q", file, name)
			}
		}
		for _, other := range []string{"y" + name, "y" + name + id, name + "y", name + "y" + id, name + ".7"} {
			if len(escaped(name)) < 100 && IsNameOf(FileName(other), name, len(id)) {
				t.Errorf("%s is found as a ledger of %q", FileName(other), name)
			}
		}
	}
}
