package machine

import (
	"time"

	"graceful/cleanup"
	"graceful/forward"
)

// Event is what can happen to a run: one of the types below. Their JSON form is what a record of the ledger holds.
type Event any

// Events of the target.
type (
	// TargetStarted: it runs.
	TargetStarted struct {
		PID   int    `json:"pid,omitempty"`
		Start uint64 `json:"start,omitempty"` // its start time, in clock ticks since boot
	}
	// TargetFailed: it could not be started.
	TargetFailed struct {
		Status int          `json:"code,omitempty"`
		Err    cleanup.Text `json:"error,omitempty"` // for the report
	}
	// TargetEnded: it has ended, and was not reaped.
	TargetEnded struct {
		Ending
		After time.Duration `json:"after,omitempty"` // since the run began
		Usage *Usage        `json:"usage,omitempty"` // for the report, where it is known
	}
	// TreeEmptied: no member of the tree is left, or none that graceful could end.
	TreeEmptied struct{}
	// Relayed: the target's output on its own terminal is relayed, as far as a reader takes it.
	Relayed struct{}
)

// Events of the run.
type (
	// Signalled: a signal was received.
	Signalled struct {
		Signal  int             `json:"signal,omitempty"`
		Meaning forward.Meaning `json:"-"`
	}
	// TimeUp: a timer of the run has ended.
	TimeUp struct {
		Name TimerName `json:"timer,omitempty"`
	}
	// Orphaned: one of graceful's two processes was killed, and the other one ends the run.
	Orphaned struct{}
	// Recovered: all of graceful's processes were killed, and another one resumes. How the target ended is unknown.
	Recovered struct {
		After time.Duration `json:"after,omitempty"` // since the run began
	}
	// Retried: commands that were lost are to run again. It alone leads back from Done.
	Retried struct{}
)

// Events of cleanup commands and on-stop commands.
type (
	// CommandStarted: its process runs.
	CommandStarted struct {
		ID    int    `json:"id,omitempty"`
		PID   int    `json:"pid,omitempty"`
		Start uint64 `json:"start,omitempty"`
	}
	// CommandFailed: it could not be started. For want of a resource that may come back it is tried again.
	CommandFailed struct {
		ID        int          `json:"id,omitempty"`
		Err       cleanup.Text `json:"error,omitempty"`
		Transient bool         `json:"-"`
	}
	// CommandEnded: its process has ended.
	CommandEnded struct {
		ID int `json:"id,omitempty"`
		Ending
		Unseen bool `json:"unseen,omitempty"` // graceful was not its parent: how it ended is unknown
	}
	// CommandLost: it may have been started, and whether it has ended is unknown.
	CommandLost struct {
		ID int `json:"id,omitempty"`
	}
	// CommandTimer: a timer of the command has ended.
	CommandTimer struct {
		ID   int       `json:"id,omitempty"`
		Name TimerName `json:"timer,omitempty"`
	}
	// Registered: a command is to join the others.
	Registered struct {
		Entry  cleanup.Entry `json:"command"`
		Left   time.Duration `json:"after,omitempty"` // of the deadline, when it runs
		Replay bool          `json:"-"`               // it is in the ledger: there was room for it
	}
	// Withdrawn: a command is to be withdrawn.
	Withdrawn struct {
		ID   int           `json:"id,omitempty"`
		Left time.Duration `json:"after,omitempty"` // of the deadline, when it runs
	}
	// Exited: the process that a command waits for has ended.
	Exited struct {
		ID int `json:"id,omitempty"`
	}
)

// Ending is how a process ended. The zero value is exit status 0.
type Ending struct {
	Code   int `json:"code,omitempty"`   // exit status, 0 to 255
	Signal int `json:"signal,omitempty"` // the signal that ended it, or 0
}

// Status is the ending as a shell reports it: the exit status, or 128+n for signal n.
func (e Ending) Status() int {
	if e.Signal != 0 {
		return 128 + e.Signal
	}
	return e.Code
}
