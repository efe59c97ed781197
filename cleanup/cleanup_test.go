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
		// Shell, for all that they begin like arrays.
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

// drain claims until nothing is left, ending each command in turn, and returns what each claim took.
func drain(s Stack) (claims [][]int) {
	for {
		var ids []int
		s, ids = s.Claim(AtExit)
		if len(ids) == 0 {
			return claims
		}
		claims = append(claims, ids)
		for _, id := range ids {
			s = s.Update(id, func(e *Entry) { e.Progress = Ended })
		}
	}
}

func TestOrders(t *testing.T) {
	for order, want := range map[Order][][]int{
		LIFO:     {{3}, {2}, {1}},
		FIFO:     {{1}, {2}, {3}},
		Parallel: {{1, 2, 3}},
	} {
		s := Stack{Order: order}
		for range 3 {
			s = s.Push(AtExit, Command{})
		}
		if got := drain(s); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s claims %v, want %v", order, got, want)
		}
	}
}

func TestNothingIsClaimedWhileACommandRuns(t *testing.T) {
	s := Stack{Order: LIFO}.Push(AtExit, Command{}).Push(AtExit, Command{})
	s, first := s.Claim(AtExit)
	if _, again := s.Claim(AtExit); len(first) != 1 || len(again) != 0 {
		t.Errorf("claimed %v, then %v", first, again)
	}
}

func TestAStackIsAValue(t *testing.T) {
	base := Stack{Order: LIFO}.Push(AtExit, Command{Text: "a"})
	one, two := base.Push(AtExit, Command{Text: "b"}), base.Push(AtExit, Command{Text: "c"})
	if one.Entries[1].Command.Text != "b" || two.Entries[1].Command.Text != "c" || len(base.Entries) != 1 {
		t.Error("stacks share their entries")
	}
	claimed, _ := base.Claim(AtExit)
	claimed.Update(1, func(e *Entry) { e.Progress = Ended })
	if base.Entries[0].Progress != Pending || claimed.Entries[0].Progress != Claimed {
		t.Error("a claim or an update changed the stack that it was made on")
	}
}

func TestUnknownCommands(t *testing.T) {
	for _, id := range []int{-1, 0, 1} {
		if _, ok := (Stack{}).Get(id); ok {
			t.Errorf("there is a command %d in an empty stack", id)
		}
	}
}
