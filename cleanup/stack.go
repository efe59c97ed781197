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

// A command is claimed before it is started, so that whoever reads the stack later knows that it may have run. One that
// is withdrawn never does.
const (
	Pending Progress = iota
	Claimed
	Ended
	Withdrawn
)

// Entry is a command and what became of it.
type Entry struct {
	ID      int // as registered, from 1
	When    When
	Command Command
	Registration
	Progress Progress
	PID      int    // 0 until started
	Start    uint64 // its start time, in clock ticks since the machine's
	TimedOut bool
	Cut      bool // ended because a stop signal came again
	Killed   bool // because it came once more
	Outcome  Outcome
}

// Registration is what a command brings along that was registered while the run went on.
type Registration struct {
	Name  string
	Dir   string   // working directory; "": the run's
	Env   []string // nil: the run's
	EnvOf int      // the first entry that has the same one; 0: none before it
	Exits Process  // the command runs as soon as that has ended; the zero value: with the others
	Key   string   // by which who asks again, since he had no answer, is known
}

// Process names one process until the machine restarts.
type Process struct {
	PID   int
	Start uint64 // in clock ticks since the machine's
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

// Stack is the cleanup commands of a run. It is a value: its methods leave the receiver, and the entries that it points
// to, as they were.
type Stack struct {
	Order   Order
	Entries []*Entry
	Active  []int // those that are claimed and have not ended
	Changes int   // registrations and withdrawals
}

// Push adds a command that is known from the beginning.
func (s Stack) Push(when When, c Command) Stack {
	return s.Register(Entry{When: when, Command: c})
}

// Register adds a command.
func (s Stack) Register(e Entry) Stack {
	e.ID = len(s.Entries) + 1
	s.Entries = append(slices.Clip(s.Entries), &e)
	s.Changes++
	return s
}

// Registered finds the entry that was registered with that key, and was not withdrawn.
func (s Stack) Registered(key string) (id int, ok bool) {
	for _, e := range s.Entries {
		if key != "" && e.Key == key && e.Progress != Withdrawn {
			return e.ID, true
		}
	}
	return 0, false
}

// Withdraw takes back a command that nobody has claimed. That it is taken back already is as good.
func (s Stack) Withdraw(id int) (_ Stack, ok bool) {
	e, ok := s.Get(id)
	if !ok || e.When != AtExit || e.Progress != Pending {
		return s, e.Progress == Withdrawn
	}
	s.Changes++
	return s.Update(id, func(e *Entry) { e.Progress = Withdrawn }), true
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
	var claimed []int
	for i := range s.Entries {
		e := s.Entries[i]
		if order != FIFO && order != Parallel {
			e = s.Entries[len(s.Entries)-1-i]
		}
		if e.When != when || e.Progress != Pending {
			continue
		}
		claimed = append(claimed, e.ID)
		if order != Parallel {
			break
		}
	}
	return s.claim(claimed), claimed
}

// ClaimOne takes a command that waits for the end of a process, out of its turn.
func (s Stack) ClaimOne(id int) (_ Stack, ok bool) {
	if e, known := s.Get(id); !known || e.Progress != Pending || e.Exits.PID == 0 {
		return s, false
	}
	return s.claim([]int{id}), true
}

func (s Stack) claim(ids []int) Stack {
	if len(ids) == 0 {
		return s
	}
	s.Entries, s.Active = slices.Clone(s.Entries), append(slices.Clip(s.Active), ids...)
	for _, id := range ids {
		e := *s.Entries[id-1]
		e.Progress = Claimed
		s.Entries[id-1] = &e
	}
	return s
}

// Running lists the commands that are claimed and have not ended.
func (s Stack) Running(when When) (ids []int) {
	for _, id := range s.Active {
		if s.Entries[id-1].When == when {
			ids = append(ids, id)
		}
	}
	return ids
}

// Get returns the entry with that id.
func (s Stack) Get(id int) (Entry, bool) {
	if id < 1 || id > len(s.Entries) {
		return Entry{}, false
	}
	return *s.Entries[id-1], true
}

// Update changes the entry with that id, which must exist.
func (s Stack) Update(id int, change func(*Entry)) Stack {
	e := *s.Entries[id-1]
	was := e.Progress
	change(&e)
	s.Entries = slices.Clone(s.Entries)
	s.Entries[id-1] = &e
	if (e.Progress == Claimed) != (was == Claimed) {
		s.Active = slices.DeleteFunc(slices.Clone(s.Active), func(a int) bool { return a == id })
		if e.Progress == Claimed {
			s.Active = append(s.Active, id)
		}
	}
	return s
}
