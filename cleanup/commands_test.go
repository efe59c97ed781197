package cleanup

import (
	"slices"
	"testing"
)

// drain claims and ends commands until all have ended. It returns the ids of each claim.
func drain(cs Commands) (claims [][]int) {
	for {
		var ids []int
		cs, ids = cs.Claim(AtExit)
		if len(ids) == 0 {
			return claims
		}
		claims = append(claims, ids)
		for _, id := range ids {
			cs = cs.Update(id, func(e *Entry) { e.Progress = Ended })
		}
	}
}

func TestClaim_order(t *testing.T) {
	for order, want := range map[Order][][]int{
		LIFO:     {{3}, {2}, {1}},
		FIFO:     {{1}, {2}, {3}},
		Parallel: {{1, 2, 3}},
	} {
		cs := Commands{Order: order}
		for range 3 {
			cs = cs.Add(AtExit, Command{})
		}
		if got := drain(cs); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s claims %v, want %v", order, got, want)
		}
	}
}

// The zero Order is LIFO, like the order of Go's defer.
func TestClaim_zeroOrder(t *testing.T) {
	cs := Commands{}.Add(AtExit, Command{}).Add(AtExit, Command{})
	if got := drain(cs); !slices.EqualFunc(got, [][]int{{2}, {1}}, slices.Equal) {
		t.Errorf("claims %v, want the last command first", got)
	}
}

func TestClaim_whileACommandRuns(t *testing.T) {
	cs := Commands{Order: LIFO}.Add(AtExit, Command{}).Add(AtExit, Command{})
	cs, first := cs.Claim(AtExit)
	if _, again := cs.Claim(AtExit); len(first) != 1 || len(again) != 0 {
		t.Errorf("claimed %v, then %v", first, again)
	}
}

// Claim returns one command at a time in every order but Parallel, and none while the returned ones run. Running
// returns all commands that are claimed.
func TestClaim_oneAtATime(t *testing.T) {
	for order, want := range map[Order][]int{LIFO: {2}, FIFO: {1}, Parallel: {1, 2}} {
		cs, first := Commands{Order: order}.Add(AtExit, Command{}).Add(AtExit, Command{}).Claim(AtExit)
		again, second := cs.Claim(AtExit)
		if !slices.Equal(first, want) || len(second) != 0 || len(again.Running(AtExit)) != len(want) {
			t.Errorf("%s: claimed %v, then %v; %d run", order, first, second, again.Running(AtExit))
		}
	}
}

func TestCommands_isAValue(t *testing.T) {
	base := Commands{Order: LIFO}.Add(AtExit, Command{Text: "a"})
	one, two := base.Add(AtExit, Command{Text: "b"}), base.Add(AtExit, Command{Text: "c"})
	if one.Entries.At(1).Command.Text != "b" || two.Entries.At(1).Command.Text != "c" || base.Entries.Len() != 1 {
		t.Error("copies share their entries")
	}
	claimed, _ := base.Claim(AtExit)
	claimed.Update(1, func(e *Entry) { e.Progress = Ended })
	if base.Entries.At(0).Progress != Pending || claimed.Entries.At(0).Progress != Claimed {
		t.Error("a claim or an update changed its receiver")
	}
}

// Two values that were made from the same Commands share no new entry, whatever the capacity of the slice is.
func TestAdd_twiceToTheSameValue(t *testing.T) {
	var base Commands
	for range 9 {
		base = base.Add(AtExit, Command{})
		one := base.Add(AtExit, Command{Text: "one"})
		two := base.Add(AtExit, Command{Text: "two"})
		id := one.Entries.Len()
		if a, _ := one.Get(id); a.Command.Text != "one" || a.ID != id {
			t.Fatalf("entry %d of the first copy is %+v", id, a)
		}
		if b, _ := two.Get(id); b.Command.Text != "two" {
			t.Fatalf("entry %d of the second copy is %+v", id, b)
		}
		if _, ok := base.Get(id); ok {
			t.Fatalf("entry %d is in the original", id)
		}
	}
}

func TestGet_unknownID(t *testing.T) {
	for _, id := range []int{-1, 0, 1} {
		if _, ok := (Commands{}).Get(id); ok {
			t.Errorf("empty Commands have an entry %d", id)
		}
	}
}

func TestOutcome_failed(t *testing.T) {
	for o, want := range map[Outcome]bool{{}: false, {Code: 1}: true, {Signal: 9}: true, {Error: "none"}: true} {
		if o.Failed() != want {
			t.Errorf("%+v failed: %t", o, o.Failed())
		}
	}
}
