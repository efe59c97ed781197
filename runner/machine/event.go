package machine

import (
	"time"

	"graceful/cleanup"
	"graceful/forward"
)

// Event describes something that happens to a run. It is one of the types below. Package journal records its JSON form.
type Event any

// These events belong to the target and its tree.
type (
	// TargetStarted reports that the target was started.
	TargetStarted struct {
		PID   int    `json:"pid,omitempty"`
		Start uint64 `json:"start,omitempty"` // its start time, in clock ticks since boot
	}
	// TargetFailed reports that the target could not be started. It may follow TargetStarted, because graceful reports
	// TargetStarted without waiting for a file system that does not answer.
	TargetFailed struct {
		Status int          `json:"code,omitempty"`  // exit status of graceful
		Err    cleanup.Text `json:"error,omitempty"` // for the report
	}
	// TargetEnded reports that the target has ended. It is not reaped yet.
	TargetEnded struct {
		Ending
		After time.Duration `json:"after,omitempty"` // since the run began
		Usage *Usage        `json:"usage,omitempty"` // for the report; nil: unknown
	}
	// TargetGivenUp reports that SIGKILL has not ended the target, or that graceful may not signal the target.
	TargetGivenUp struct {
		After time.Duration `json:"after,omitempty"` // since the run began
	}
	// TreeEmptied reports that the tree has no member left, or none that graceful can end.
	TreeEmptied struct{}
	// Relayed reports that RelayRest is done, or that the reader accepts no more output.
	Relayed struct{}
)

// These events belong to the run.
type (
	// Signalled reports a signal that graceful has received.
	Signalled struct {
		Signal  int             `json:"signal,omitempty"`
		Meaning forward.Meaning `json:"-"`
	}
	// Sent reports that graceful has sent a stop signal: to the target's process group, to the target alone (Alone),
	// or to all survivors that had received no stop signal (All).
	Sent struct {
		Signal int    `json:"signal,omitempty"`
		Alone  bool   `json:"alone,omitempty"`
		All    bool   `json:"all,omitempty"`
		Tick   uint64 `json:"tick,omitempty"` // time, as in procfs.Moment; 0: unknown
		PID    int    `json:"last,omitempty"`
		Step   int    `json:"-"` // of the schedule: the machine adds it
	}
	// TimeUp reports that a timer of the run has ended.
	TimeUp struct {
		Name TimerName `json:"timer,omitempty"`
	}
	// PeerEnded reports that graceful was killed, and that its successor stops the run.
	PeerEnded struct{}
	// Recovered reports that all processes of graceful were killed, and that another process finishes the run. It is
	// unknown how the target ended.
	Recovered struct {
		After time.Duration `json:"after,omitempty"` // since the run began
	}
	// Retried requests to run cleanup commands that were interrupted or not started. Only Retried and RetriedUnstarted
	// can change the state of a run that is Done.
	Retried struct{}
	// RetriedUnstarted requests to run cleanup commands that were not started.
	RetriedUnstarted struct{}
)

// These events belong to commands: cleanup commands and on-stop commands.
type (
	// CommandStarted reports that the process of a command was started.
	CommandStarted struct {
		ID    int    `json:"id,omitempty"`
		PID   int    `json:"pid,omitempty"`
		Start uint64 `json:"start,omitempty"` // its start time, in clock ticks since boot

		Discarded cleanup.Outputs `json:"discarded,omitzero"`
	}
	// CommandFailed reports that a command could not be started. It may follow CommandStarted, if the fork succeeded and
	// execve(2) failed later.
	CommandFailed struct {
		ID        int          `json:"id,omitempty"`
		Err       cleanup.Text `json:"error,omitempty"`
		Transient bool         `json:"-"`                   // a resource was missing; this run tries again
		Unstarted bool         `json:"unstarted,omitempty"` // a resource was missing; this run does not try again
	}
	// CommandEnded reports that a command's process has ended.
	CommandEnded struct {
		ID int `json:"id,omitempty"`
		Ending
		Unseen bool `json:"unseen,omitempty"` // graceful was not its parent, and does not know the ending
	}
	// CommandLost reports that a command may have been started, and that its ending is unknown.
	CommandLost struct {
		ID int `json:"id,omitempty"`
	}
	// CommandTimer reports that a timer of a command has ended.
	CommandTimer struct {
		ID   int       `json:"id,omitempty"`
		Name TimerName `json:"timer,omitempty"`
	}
	// Registered requests to add a command to the run.
	Registered struct {
		Entry     cleanup.Entry `json:"command"`
		Left      time.Duration `json:"after,omitempty"` // until the end of the deadline timer, if it runs
		Replay    bool          `json:"-"`               // read from the ledger: MaxCommands and MaxRegistered do not apply
		SameKeyID int           `json:"-"`               // id of the last command with the same key; 0: none
	}
	// Withdrawn requests to withdraw a command.
	Withdrawn struct {
		ID   int           `json:"id,omitempty"`
		Left time.Duration `json:"after,omitempty"` // until the end of the deadline timer, if it runs
	}
	// ProcessExited reports the end of the process that a command waits for.
	ProcessExited struct {
		ID int `json:"id,omitempty"`
	}
)

// Ending describes how a process ended. The zero value means exit status 0.
type Ending struct {
	Code   int `json:"code,omitempty"`   // exit status, 0 to 255
	Signal int `json:"signal,omitempty"` // the signal that ended it, or 0
}

// Status returns the exit status as a shell reports it: the exit code, or 128+n for signal n.
func (e Ending) Status() int {
	if e.Signal != 0 {
		return 128 + e.Signal
	}
	return e.Code
}

// Usage contains the resources that a process has used, with the children that it has waited for (getrusage(2)).
type Usage struct {
	UserMS              float64 `json:"user_ms"`
	SystemMS            float64 `json:"system_ms"`
	MaxRSSKB            int64   `json:"max_rss_kb"`
	MinorFaults         int64   `json:"minor_faults"`
	MajorFaults         int64   `json:"major_faults"`
	BlocksRead          int64   `json:"blocks_read"`
	BlocksWritten       int64   `json:"blocks_written"`
	VoluntarySwitches   int64   `json:"voluntary_switches"`
	InvoluntarySwitches int64   `json:"involuntary_switches"`
}
