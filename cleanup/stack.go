package cleanup

import "slices"

// Order says which command runs when.
type Order string

// The orders. LIFO is that of atexit(3) and of Go's defer.
const (
	LIFO     Order = "lifo"
	FIFO     Order = "fifo"
	Parallel Order = "parallel"
)

// Orders lists them, the default first.
func Orders() []Order { return []Order{LIFO, FIFO, Parallel} }

// When says at what moment of a run a command runs.
type When uint8

// AtExit are the cleanup commands. AtStop are those that tell others of a stop before it begins.
const (
	AtExit When = iota
	AtStop
)

// Progress is how far a command has come. It only grows.
type Progress uint8

// A command is claimed before it is started, so that whoever reads the stack later knows that it may have run.
const (
	Pending Progress = iota
	Claimed
	Ended
)

// Entry is a command and what became of it.
type Entry struct {
	ID       int // as registered, from 1
	When     When
	Command  Command
	Progress Progress
	PID      int    // 0 until started
	Start    uint64 // its start time, in clock ticks since the machine's
	TimedOut bool
	Cut      bool // ended because a stop signal came again
	Killed   bool // because it came once more
	Outcome  Outcome
}

// Outcome tells how a command ended. The zero value is success.
type Outcome struct {
	Code   int    // exit status
	Signal int    // the signal that ended it, or 0
	Error  string // why it could not be started, or was given up
	// Interrupted: it may have been started, and whether it ended nobody saw.
	Interrupted bool
}

// Failed tells whether anything but exit status 0 came of it.
func (o Outcome) Failed() bool { return o != Outcome{} }

// Stack is the cleanup commands of a run. It is a value: its methods leave the receiver as it was.
type Stack struct {
	Order   Order
	Entries []Entry
}

// Push registers a command.
func (s Stack) Push(when When, c Command) Stack {
	s.Entries = append(slices.Clip(s.Entries), Entry{ID: len(s.Entries) + 1, When: when, Command: c})
	return s
}

// Claim takes the commands that are to start now: one, or in parallel order all that are left. While a command
// is claimed and has not ended, there is nothing to claim in the other orders. At a stop the order is that given.
func (s Stack) Claim(when When) (Stack, []int) {
	order := s.Order
	if when == AtStop {
		order = FIFO
	}
	if order != Parallel && len(s.Running(when)) > 0 {
		return s, nil
	}
	s.Entries = slices.Clone(s.Entries)
	var claimed []int
	for i := range s.Entries {
		e := &s.Entries[i]
		if order != FIFO && order != Parallel {
			e = &s.Entries[len(s.Entries)-1-i]
		}
		if e.When != when || e.Progress != Pending {
			continue
		}
		e.Progress = Claimed
		claimed = append(claimed, e.ID)
		if order != Parallel {
			break
		}
	}
	return s, claimed
}

// Running lists the commands that are claimed and have not ended.
func (s Stack) Running(when When) (ids []int) {
	for _, e := range s.Entries {
		if e.When == when && e.Progress == Claimed {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// Get returns the entry with that id.
func (s Stack) Get(id int) (Entry, bool) {
	if id < 1 || id > len(s.Entries) {
		return Entry{}, false
	}
	return s.Entries[id-1], true
}

// Update changes the entry with that id, which must exist.
func (s Stack) Update(id int, change func(*Entry)) Stack {
	s.Entries = slices.Clone(s.Entries)
	change(&s.Entries[id-1])
	return s
}
