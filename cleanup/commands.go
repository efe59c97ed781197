package cleanup

import (
	"cmp"
	"slices"
)

// Order is the order in which cleanup commands run.
type Order string

// The orders. atexit(3) and Go's defer use LIFO. The zero value means LIFO, too.
const (
	LIFO     Order = "lifo"
	FIFO     Order = "fifo"
	Parallel Order = "parallel"
)

// Orders lists all orders, the default first.
func Orders() []Order { return []Order{LIFO, FIFO, Parallel} }

// When is the point of a run at which a command runs.
type When uint8

// A command with AtExit is a cleanup command (--on-exit, graceful defer). It runs at the end of the run, or when the
// process that it waits for has ended. A command with AtStop is an on-stop command (--on-stop). It runs at the
// beginning of a stop.
const (
	AtExit When = iota
	AtStop
)

// Progress is the stage of a command. It only increases, with one exception: a retried or delayed command becomes
// pending again.
type Progress uint8

// The stages. A command is claimed before it is started. So a process that resumes the run knows that the command may
// have run. A command that could not be started also ends. A withdrawn command never runs.
const (
	Pending Progress = iota
	Claimed
	Ended
	Withdrawn
)

// Entry is a command with its progress and outcome.
type Entry struct {
	ID      int // in the order of registration, from 1
	When    When
	Command Command
	Registration
	Progress Progress
	PID      int    // 0: it was not started, or graceful did not see its end
	Start    uint64 // start time in clock ticks since boot; 0: unknown
	TimedOut bool   // its limit passed before it ended, or before it could be started
	Cut      bool   // a repeated stop signal terminated it, or ended the attempts to start it
	Killed   bool   // a repeated stop signal killed it after it was cut or had timed out
	Outcome  Outcome

	Delayed   bool    // it could not be started when the awaited process ended; it runs with the other commands
	Discarded Outputs // outputs without a reader; data that the command writes to them is discarded
}

// hasFailed reports whether the entry is a cleanup command that has ended without success. A command that timed out or
// was cut has failed, whatever its outcome is.
func (e *Entry) hasFailed() bool {
	return e.When == AtExit && e.Progress == Ended && (e.TimedOut || e.Cut || e.Outcome.Failed())
}

// Outputs is a set of the outputs of a command.
type Outputs struct {
	Stdout bool `json:"stdout,omitempty"`
	Stderr bool `json:"stderr,omitempty"`
}

// Names returns the names of the outputs. The list is never nil.
func (o Outputs) Names() []string {
	names := []string{}
	if o.Stdout {
		names = append(names, "stdout")
	}
	if o.Stderr {
		names = append(names, "stderr")
	}
	return names
}

// Registration holds the data that a client registers with a command during the run.
type Registration struct {
	Name    string
	Dir     string   // working directory; "": the run's
	Env     []string // nil: the environment of the run
	EnvOf   int      // id of an earlier entry with the same Env; 0: Env belongs to this entry, or is nil
	Awaited Process  // the command runs when this process has ended; zero: with the other commands
	Key     string   // identifies a request that a client repeats because it got no answer
}

// Shown returns the text that the log and the report contain for the command. If the command has a name, Shown returns
// the name, because the command itself may contain a secret.
func (e Entry) Shown() string { return cmp.Or(e.Name, e.Command.Text) }

// Process identifies a process until the machine boots again. A pid alone is not enough, because the kernel reuses
// pids.
type Process struct {
	PID   int
	Start uint64 // start time in clock ticks since boot (proc_pid_stat(5), starttime); 0: unknown
}

// Outcome describes the end of a command. For a command that has ended, the zero value means success.
type Outcome struct {
	Code        int    // exit status
	Signal      int    // the signal that ended it; 0: none
	Error       string // why it was not started, or why its exit status is unknown
	Interrupted bool   // it may have been started, and its end is unknown
	Unstarted   bool   // it was not started for lack of a directory, processes or memory: recover can start it
	Unseen      bool   // it has ended, but its exit status is unknown
}

// Failed reports whether the outcome is not exit status 0.
func (o Outcome) Failed() bool { return o != Outcome{} }

// Commands holds the cleanup commands and the on-stop commands of a run. It is a value: no method changes its receiver
// or the entries of the receiver.
type Commands struct {
	Order   Order
	Entries List
	Active  []int // ids of the commands that are claimed and have not ended
	Changes int   // number of registrations and withdrawals
}

// Add adds a command of the run's configuration, which has no Registration.
func (cs Commands) Add(when When, c Command) Commands {
	return cs.Register(Entry{When: when, Command: c})
}

// Register adds an entry, and gives the entry the next id.
func (cs Commands) Register(e Entry) Commands {
	e.ID = cs.Entries.Len() + 1
	cs.Entries = cs.Entries.add(&e)
	cs.Changes++
	return cs
}

// recordSize is an upper bound, in bytes, of a registration's record in a ledger without the texts of the entry.
const recordSize = 344

// RecordSize returns an upper bound, in bytes, of the record of the entry's registration in a ledger.
func (e Entry) RecordSize() int {
	lists := e.Command.Args
	if e.EnvOf == 0 {
		lists = slices.Concat(lists, e.Env)
	}
	n := recordSize + len(lists)*len(",")
	for _, text := range slices.Concat(lists, []string{e.Command.Text, e.Name, e.Dir, e.Key}) {
		n += Text(text).Size()
	}
	return n
}

// Withdraw withdraws a pending cleanup command. ok is also true if the command was withdrawn before. Otherwise ok is
// false: the id is unknown, or the command was claimed or is an on-stop command.
func (cs Commands) Withdraw(id int) (_ Commands, ok bool) {
	e, ok := cs.Get(id)
	if !ok || e.When != AtExit || e.Progress != Pending {
		return cs, e.Progress == Withdrawn
	}
	cs.Changes++
	return cs.Update(id, func(e *Entry) { e.Progress = Withdrawn }), true
}

// Claim claims the commands with the given When that start now, and returns their ids. In parallel order these are all
// pending commands. In any other order it is the next command, or none while another one is claimed. AtStop commands
// run one after the other in the order of registration, whatever Order is.
func (cs Commands) Claim(when When) (Commands, []int) {
	order := cs.Order
	if when == AtStop {
		order = FIFO
	}
	if order != Parallel && len(cs.Running(when)) > 0 {
		return cs, nil
	}
	var claimed []int
	lastFirst := order != FIFO && order != Parallel
	for i := range cs.Entries.pending(when, lastFirst) {
		if claimed = append(claimed, i+1); order != Parallel {
			break
		}
	}
	if claimed == nil {
		return cs, nil
	}
	cs.Active = append(slices.Clip(cs.Active), claimed...)
	cs.Entries = cs.Entries.claim(when, claimed, lastFirst)
	return cs, claimed
}

// ClaimOne claims a command when the process that it waits for has ended, without regard to the order. ok is false if
// the command is unknown, is not pending, waits for no process, or is delayed.
func (cs Commands) ClaimOne(id int) (_ Commands, ok bool) {
	if e, known := cs.Get(id); !known || e.Progress != Pending || e.Awaited.PID == 0 || e.Delayed {
		return cs, false
	}
	return cs.Update(id, func(e *Entry) { e.Progress = Claimed }), true
}

// Running returns the ids of the commands with the given When that are claimed and have not ended.
func (cs Commands) Running(when When) (ids []int) {
	for _, id := range cs.Active {
		if cs.Entries.At(id-1).When == when {
			ids = append(ids, id)
		}
	}
	return ids
}

// Get returns the entry with an id, and whether there is such an entry.
func (cs Commands) Get(id int) (Entry, bool) {
	if id < 1 || id > cs.Entries.Len() {
		return Entry{}, false
	}
	return *cs.Entries.At(id - 1), true
}

// Update replaces the entry with an id by a copy to which it has applied change. The entry must exist.
func (cs Commands) Update(id int, change func(*Entry)) Commands {
	e := *cs.Entries.At(id - 1)
	was := e.Progress
	change(&e)
	cs.Entries = cs.Entries.with(id-1, &e)
	if (e.Progress == Claimed) != (was == Claimed) {
		cs.Active = slices.DeleteFunc(slices.Clone(cs.Active), func(a int) bool { return a == id })
		if e.Progress == Claimed {
			cs.Active = append(cs.Active, id)
		}
	}
	return cs
}
