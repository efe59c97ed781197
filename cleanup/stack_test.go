package cleanup

import (
	"slices"
	"testing"
)

func TestNoOrderIsThatOfDefer(t *testing.T) {
	s := Stack{}.Push(AtExit, Command{}).Push(AtExit, Command{})
	if got := drain(s); !slices.EqualFunc(got, [][]int{{2}, {1}}, slices.Equal) {
		t.Errorf("claims %v, want the last one first", got)
	}
}

// Claimed before it is started, so a command that may be running is one that is claimed.
func TestOneAtATimeInEveryOrderButParallel(t *testing.T) {
	for order, want := range map[Order][]int{LIFO: {2}, FIFO: {1}, Parallel: {1, 2}} {
		s, first := Stack{Order: order}.Push(AtExit, Command{}).Push(AtExit, Command{}).Claim(AtExit)
		again, second := s.Claim(AtExit)
		if !slices.Equal(first, want) || len(second) != 0 || len(again.Running(AtExit)) != len(want) {
			t.Errorf("%s: claimed %v, then %v; %d run", order, first, second, again.Running(AtExit))
		}
	}
}

// Two stacks that grew from one share no entry, whatever room its slice had.
func TestStacksThatGrowFromOneGrowApart(t *testing.T) {
	var base Stack
	for range 9 {
		base = base.Push(AtExit, Command{})
		one := base.Push(AtExit, Command{Text: "one"})
		two := base.Push(AtExit, Command{Text: "two"})
		id := len(one.Entries)
		if a, _ := one.Get(id); a.Command.Text != "one" || a.ID != id {
			t.Fatalf("entry %d of the first is %+v", id, a)
		}
		if b, _ := two.Get(id); b.Command.Text != "two" {
			t.Fatalf("entry %d of the second is %+v", id, b)
		}
		if _, ok := base.Get(id); ok {
			t.Fatalf("entry %d is in what both came from", id)
		}
	}
}

func TestAnythingButSuccessIsFailure(t *testing.T) {
	for o, want := range map[Outcome]bool{{}: false, {Code: 1}: true, {Signal: 9}: true, {Error: "none"}: true} {
		if o.Failed() != want {
			t.Errorf("%+v failed: %t", o, o.Failed())
		}
	}
}

// The shell that an exec form names itself is the user's business: it need not be there when the run begins.
func TestAnExecFormThatNamesAShellIsNoShellForm(t *testing.T) {
	for text, want := range map[string]bool{
		"true": true, `["/bin/sh", "-c", "true"]`: false, `["/bin/sh"]`: false, `["/bin/sh", "-c", ""]`: false,
	} {
		c, err := Parse(text)
		if err != nil || c.NeedsShell() != want {
			t.Errorf("%s needs our shell: %t, %v", text, c.NeedsShell(), err)
		}
	}
}
