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
		Start uint64 `json:"start,omitempty"` // start time of the target, in clock ticks since boot
	}
	// TargetFailed reports that the target could not be started. It may follow TargetStarted, because graceful reports
	// TargetStarted without waiting for a file system that does not answer.
	TargetFailed struct {
		Status int          `json:"code,omitempty"`  // exit status of graceful, before Policy.Remap
		Err    cleanup.Text `json:"error,omitempty"` // reason, for the report
	}
	// TargetEnded reports that the target has ended. The target is not reaped yet.
	TargetEnded struct {
		Ending
		After time.Duration `json:"after,omitempty"` // time since the run began
		Usage *Usage        `json:"usage,omitempty"` // for the report; nil: unknown
	}
	// TargetGivenUp reports that SIGKILL has not ended the target, or that graceful may not signal the target.
	TargetGivenUp struct {
		After time.Duration `json:"after,omitempty"` // time since the run began
	}
	// TreeEmptied reports that the tree has no member left, or none that graceful can end.
	TreeEmptied struct{}
	// Relayed reports that RelayRest is done: all output is written, or the reader has exceeded a limit.
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
		PID    int    `json:"last,omitempty"` // pid, as in procfs.Moment
		Step   int    `json:"-"`              // step of the schedule, as in Stop.Step; the machine sets this field
	}
	// TimeUp reports that a timer of the run has ended.
	TimeUp struct {
		Name TimerName `json:"timer,omitempty"`
	}
	// PeerEnded reports that graceful was killed, and that its successor stops the run.
	PeerEnded struct{}
	// Recovered reports that another process finishes a run whose processes of graceful were killed: all of them, or
	// the one that has seen the end of the target. If the target's end is not recorded, it is unknown how the target
	// ended.
	Recovered struct {
		After time.Duration `json:"after,omitempty"` // time since the run began
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
		Start uint64 `json:"start,omitempty"` // start time of the process, in clock ticks since boot

		Discarded cleanup.Outputs `json:"discarded,omitzero"` // outputs that have no reader
	}
	// CommandFailed reports that a command could not be started. It may follow CommandStarted, if the fork succeeded and
	// execve(2) failed later.
	CommandFailed struct {
		ID        int          `json:"id,omitempty"`
		Err       cleanup.Text `json:"error,omitempty"`
		Transient bool         `json:"-"`                   // a resource was missing; after RetryAfter graceful tries again
		Unstarted bool         `json:"unstarted,omitempty"` // a resource or the directory was missing; see cleanup.Outcome
	}
	// CommandEnded reports that a command's process has ended.
	CommandEnded struct {
		ID int `json:"id,omitempty"`
		Ending
		Unseen bool `json:"unseen,omitempty"` // graceful does not know the ending, as it was not the parent
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
		Left      time.Duration `json:"after,omitempty"` // time until the deadline timer ends; 0: that timer does not run
		Replay    bool          `json:"-"`               // read from the ledger: MaxCommands and MaxRegistered do not apply
		SameKeyID int           `json:"-"`               // id of the last command with the same key; 0: none
	}
	// Withdrawn requests to withdraw a command.
	Withdrawn struct {
		ID   int           `json:"id,omitempty"`
		Left time.Duration `json:"after,omitempty"` // time until the deadline timer ends; 0: that timer does not run
	}
	// ProcessExited reports the end of the process that a command waits for.
	ProcessExited struct {
		ID int `json:"id,omitempty"`
	}
)

// Ending describes how a process ended. The zero value means exit status 0.
type Ending struct {
	Code   int `json:"code,omitempty"`   // exit status, 0 to 255
	Signal int `json:"signal,omitempty"` // the signal that ended the process, or 0
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
