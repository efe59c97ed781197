package cleanup

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text, err string
		args      []string
	}{
		{text: "./flush.sh --all", args: []string{Shell, "-c", "./flush.sh --all"}},
		{text: "echo \xff", args: []string{Shell, "-c", "echo \xff"}}, // the shell takes any bytes
		{text: `["./flush", "--all"]`, args: []string{"./flush", "--all"}},
		{text: ` [ "a", "" ] `, args: []string{"a", ""}},
		{text: `["ä\u00e4"]`, args: []string{"ää"}},
		// These texts begin like arrays, but they are shell commands.
		{text: `[ -e lock ] && rm lock`, args: []string{Shell, "-c", `[ -e lock ] && rm lock`}},
		{text: `[ "$x" = 1 ] && rm lock`, args: []string{Shell, "-c", `[ "$x" = 1 ] && rm lock`}},
		{text: `[[ -e lock ]]`, args: []string{Shell, "-c", `[[ -e lock ]]`}},

		{text: "", err: "is empty"},
		{text: " \t", err: "is empty"},
		{text: "a\x00b", err: "NUL"},
		{text: `["a\u0000b"]`, err: "NUL"},
		{text: "[]", err: "names no program"},
		{text: `[""]`, err: "names no program"},
		{text: `["a", 1]`, err: "not a JSON array of strings"},
		{text: `['a']`, err: "not a JSON array of strings"},
		{text: `["a"`, err: "not a JSON array of strings"},
		{text: `["a"] x`, err: "not a JSON array of strings"},
		{text: "[\"\xff\"]", err: "UTF-8"},
		{text: `["\ud83d"]`, err: "UTF-8"},
		{text: `["\ufffd\ud83d\ude00"]`, args: []string{"\ufffd😀"}},
	} {
		got, err := Parse(c.text)
		switch {
		case c.err == "" && err != nil:
			t.Errorf("%q: %v", c.text, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%q: error %v, want one about %q", c.text, err, c.err)
		case c.err == "" && (!slices.Equal(got.Args, c.args) || got.Text != c.text):
			t.Errorf("%q became %q", c.text, got)
		case c.err == "" && got.NeedsShell() != (c.args[0] == Shell):
			t.Errorf("%q: needs a shell: %t", c.text, got.NeedsShell())
		}
	}
}

// NeedsShell is false for an exec form, even if its program is a shell. graceful does not check that shell when the run
// begins.
func TestNeedsShell_execFormThatNamesAShell(t *testing.T) {
	for text, want := range map[string]bool{
		"true": true, `["/bin/sh", "-c", "true"]`: false, `["/bin/sh"]`: false, `["/bin/sh", "-c", ""]`: false,
	} {
		c, err := Parse(text)
		if err != nil || c.NeedsShell() != want {
			t.Errorf("%s needs graceful's shell: %t, %v", text, c.NeedsShell(), err)
		}
	}
}
