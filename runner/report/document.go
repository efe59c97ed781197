package report

import (
	"time"

	"graceful/runner/machine"
)

// Report is what a run came to, for programs. docs/report.schema.json describes it. A pid, time or status that there is
// none of is null.
type Report struct {
	Form    int    `json:"report"` // its version
	Version string `json:"version"`

	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Command    []string  `json:"command"`
	Dir        string    `json:"dir"`
	Level      string    `json:"level"`
	PID        int       `json:"pid"` // of the process that the user started
	Supervisor *int      `json:"supervisor_pid"`
	Writer     int       `json:"writer_pid"` // who has brought the run to its end
	TakenOver  bool      `json:"taken_over"` // a process of graceful's was killed, and another has gone on
	Began      time.Time `json:"began"`
	Finished   time.Time `json:"finished"`

	Reason     string  `json:"reason"`
	ExitStatus int     `json:"exit_status"`
	Raised     *string `json:"raised_signal"` // graceful ends by it
	Escalated  bool    `json:"escalated"`

	Target struct {
		PID        *int           `json:"pid"`
		Started    *time.Time     `json:"started"`
		Ended      *time.Time     `json:"ended"`
		DurationMS *int64         `json:"duration_ms"`
		ExitCode   *int           `json:"exit_code"`
		Signal     *string        `json:"signal"`
		Error      *string        `json:"error"`
		Usage      *machine.Usage `json:"usage"`
	} `json:"target"`

	Stop *Stop `json:"stop"`

	Received []Signalled `json:"signals_received"`
	Sent     []Signalled `json:"signals_sent"`
	Omitted  int         `json:"signals_omitted"`

	Emptied *time.Time `json:"tree_emptied"`
	Killed  []Process  `json:"killed"`
	Left    []Process  `json:"left"`

	Commands []Outcome `json:"commands"`
}

// Stop is how a run's stop began.
type Stop struct {
	Began    time.Time `json:"began"`
	Signal   *string   `json:"signal"`
	TimedOut bool      `json:"timed_out"`
}

// Process is a process of the tree.
type Process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

// Outcome is what became of a command of the run's.
type Outcome struct {
	ID         int        `json:"id"`
	When       string     `json:"when"` // stop, exit
	Name       *string    `json:"name"`
	Command    string     `json:"command"`
	Dir        *string    `json:"dir"`   // null: the run's
	Exits      *int       `json:"exits"` // it ran, or was to run, as soon as that process had ended
	PID        *int       `json:"pid"`
	Started    *time.Time `json:"started"`
	Ended      *time.Time `json:"ended"`
	DurationMS *int64     `json:"duration_ms"`
	Outcome    string     `json:"outcome"` // succeeded, failed, timed-out, cut, not-started, interrupted, unknown, not-run, withdrawn
	ExitCode   *int       `json:"exit_code"`
	Signal     *string    `json:"signal"`
	Error      *string    `json:"error"`
}

const version = 1
