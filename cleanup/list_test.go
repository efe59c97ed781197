package cleanup

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// A change of one entry among 65,536 allocates at most 16 KiB, and does not change older copies.
func TestCommands_manyEntries(t *testing.T) {
	const entries = 1 << 16
	var cs Commands
	for range entries {
		cs = cs.Add(AtExit, ExecForm([]string{"true"}))
	}
	before := cs
	var stats, after runtime.MemStats
	runtime.ReadMemStats(&stats)
	order := []int{}
	for range 1000 {
		var ids []int
		cs, ids = cs.Claim(AtExit)
		order = append(order, ids...)
		cs = cs.Update(ids[0], func(e *Entry) { e.Progress, e.Outcome.Code = Ended, 1 })
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - stats.TotalAlloc) / 2000; per > 16<<10 { // the pointers to all entries take 512 KiB
		t.Errorf("a change allocates %d bytes", per)
	}
	want := slices.Collect(func(yield func(int) bool) {
		for id := entries; id > entries-1000 && yield(id); id-- {
		}
	})
	if !slices.Equal(order, want) {
		t.Errorf("the order begins with %v", order[:10])
	}
	if cs.Entries.Open() != entries-1000 || cs.Entries.Failed() != 1000 || before.Entries.Open() != entries {
		t.Errorf("open: %d, failed: %d, open before: %d", cs.Entries.Open(), cs.Entries.Failed(), before.Entries.Open())
	}
	for e := range before.Entries.All() {
		if e.Progress != Pending {
			t.Fatalf("entry %d has changed in the copy", e.ID)
		}
	}
}

// Claim returns the same ids as a search through all entries, also after entries became pending again.
func TestClaim_model(t *testing.T) {
	for _, order := range Orders() {
		random := rand.New(rand.NewPCG(1, 2))
		cs := Commands{Order: order}
		for step := range 20_000 {
			id := random.IntN(cs.Entries.Len()+1) + 1
			switch when := When(random.IntN(2)); random.IntN(6) {
			case 0, 1:
				if cs.Entries.Len() < 600 {
					cs = cs.Add(when, Command{})
				}
			case 2, 3:
				pending := func(e *Entry) bool { return e.When == when && e.Progress == Pending }
				want := slices.DeleteFunc(slices.Collect(cs.Entries.All()), func(e *Entry) bool { return !pending(e) })
				switch {
				case order == Parallel && when == AtExit:
				case len(cs.Running(when)) > 0:
					want = nil
				case order == LIFO && when == AtExit:
					want = want[max(len(want)-1, 0):]
				default:
					want = want[:min(len(want), 1)]
				}
				var got []int
				cs, got = cs.Claim(when)
				if !slices.EqualFunc(got, want, func(id int, e *Entry) bool { return id == e.ID }) {
					t.Fatalf("%s, step %d: claimed %v, want %d entries", order, step, got, len(want))
				}
			case 4:
				for _, id := range cs.Active {
					cs = cs.Update(id, func(e *Entry) { e.Progress = Ended })
				}
			case 5:
				if e, ok := cs.Get(id); ok && (e.Progress == Ended || e.Progress == Pending) {
					cs = cs.Update(id, func(e *Entry) { e.Progress = []Progress{Pending, Withdrawn, Ended}[step%3] })
				}
			}
		}
	}
}
