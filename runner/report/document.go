package report

import (
	"time"

	"graceful/runner/machine"
)

// Report is the result of a run, for programs. docs/report.schema.json describes it. A pid, time or status that does
// not exist is null.
type Report struct {
	Form    int    `json:"report"` // version of the form
	Version string `json:"version"`

	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Command    []string  `json:"command"`
	Dir        string    `json:"dir"`
	Level      string    `json:"level"`
	PID        int       `json:"pid"` // the process that the user started
	Supervisor *int      `json:"supervisor_pid"`
	Writer     int       `json:"writer_pid"` // the process of graceful that ended the run
	TakenOver  bool      `json:"taken_over"` // a process of graceful was killed and another one resumed the run
	Began      time.Time `json:"began"`
	Finished   time.Time `json:"finished"`

	Reason     string  `json:"reason"`
	ExitStatus int     `json:"exit_status"`
	Raised     *string `json:"raised_signal"` // the signal by which graceful ends
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

// Stop is how the stop of a run began.
type Stop struct {
	Began    time.Time `json:"began"`
	Signal   *string   `json:"signal"`
	TimedOut bool      `json:"timed_out"`
}

// Process is a member of the tree.
type Process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

// Outcome is the outcome of a command.
type Outcome struct {
	ID         int        `json:"id"`
	When       string     `json:"when"` // stop, exit
	Name       *string    `json:"name"`
	Command    string     `json:"command"`
	Dir        *string    `json:"dir"`   // null: the run's
	Exits      *int       `json:"exits"` // pid of the process at whose end it runs
	PID        *int       `json:"pid"`
	Started    *time.Time `json:"started"`
	Ended      *time.Time `json:"ended"`
	DurationMS *int64     `json:"duration_ms"`
	Outcome    string     `json:"outcome"` // see outcomeOf
	ExitCode   *int       `json:"exit_code"`
	Signal     *string    `json:"signal"`
	Error      *string    `json:"error"`
}

// version is the version of the form.
const version = 1
