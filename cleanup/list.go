package cleanup

import (
	"iter"
	"slices"
)

// List holds the entries of Commands in the order of their ids. It is a value. To change one entry, it copies only that
// entry's chunk and the list of chunks, so that a change is cheap even with 60,000 entries.
type List struct {
	chunks [][]*Entry // all full, except the last one
	length int
	open   int // entries that are pending or claimed
	failed int // cleanup commands that have ended without success

	// These arrays have an element for each When. All pending entries with that When are at positions from low to
	// high-1.
	low, high [AtStop + 1]int
}

const chunkSize = 256

// Len returns the number of entries.
func (l List) Len() int { return l.length }

// Open returns the number of entries that have not ended and were not withdrawn.
func (l List) Open() int { return l.open }

// Failed returns the number of cleanup commands that have ended without success.
func (l List) Failed() int { return l.failed }

// At returns the entry with the id i+1. The caller must not change the entry.
func (l List) At(i int) *Entry { return l.chunks[i/chunkSize][i%chunkSize] }

// All returns the entries in the order of their ids. The caller must not change them.
func (l List) All() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, chunk := range l.chunks {
			for _, e := range chunk {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// add returns a list with one more entry, whose id must be the new length.
func (l List) add(e *Entry) List {
	last := len(l.chunks) - 1
	if l.length%chunkSize == 0 {
		l.chunks = append(slices.Clip(l.chunks), nil)
		last++
	} else {
		l.chunks = slices.Clone(l.chunks)
	}
	l.chunks[last] = append(slices.Clip(l.chunks[last]), e)
	l.length++
	return l.indexed(l.length-1, nil, e)
}

// with returns a list in which another entry has replaced the entry with the id i+1.
func (l List) with(i int, e *Entry) List {
	was, at := l.At(i), i/chunkSize
	l.chunks = slices.Clone(l.chunks)
	l.chunks[at] = slices.Clone(l.chunks[at])
	l.chunks[at][i%chunkSize] = e
	return l.indexed(i, was, e)
}

// indexed updates the counts and the range of pending entries after the entry e has replaced the entry was. For a new
// entry, was is nil.
func (l List) indexed(i int, was, e *Entry) List {
	if was != nil {
		l.count(was, -1)
	}
	l.count(e, 1)
	if low, high := &l.low[e.When], &l.high[e.When]; e.Progress != Pending {
	} else if *low >= *high {
		*low, *high = i, i+1
	} else {
		*low, *high = min(*low, i), max(*high, i+1)
	}
	return l
}

// count adds an entry to the counts, or removes it if by is -1.
func (l *List) count(e *Entry, by int) {
	switch {
	case e.Progress < Ended:
		l.open += by
	case e.hasFailed():
		l.failed += by
	}
}

// pending returns the indexes of the pending entries with the given When. If lastFirst is true, the last entry comes
// first.
func (l List) pending(when When, lastFirst bool) iter.Seq[int] {
	return func(yield func(int) bool) {
		for n := range l.high[when] - l.low[when] {
			i := l.low[when] + n
			if lastFirst {
				i = l.high[when] - 1 - n
			}
			if e := l.At(i); e.When == when && e.Progress == Pending && !yield(i) {
				return
			}
		}
	}
}

// claim claims the entries with these ids, in the order in which pending returns them for the same when and lastFirst.
// The ids belong either to the first entry that pending returns, or to all of them.
func (l List) claim(when When, ids []int, lastFirst bool) List {
	for _, id := range ids {
		e := *l.At(id - 1)
		e.Progress = Claimed
		l = l.with(id-1, &e)
	}
	switch last := ids[len(ids)-1]; {
	case lastFirst:
		l.high[when] = last - 1
	default:
		l.low[when] = last
	}
	return l
}
