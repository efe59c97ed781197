package report

import (
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// version is the version of the form of a report.
const version = 1

// Report is the result of a run in a form for programs. docs/report.schema.json describes it. A pid, time or status
// that does not exist is null.
type Report struct {
	Form    int    `json:"report"` // version of the form
	Version string `json:"version"`

	Subject
	Level     string    `json:"level"`
	PID       int       `json:"pid"`            // pid of the process that the user started
	Guard     *int      `json:"supervisor_pid"` // pid of the guard
	Writer    int       `json:"writer_pid"`     // pid of the process of graceful that completed the run
	TakenOver bool      `json:"taken_over"`     // a process of graceful was killed, and another one resumed the run
	Began     time.Time `json:"began"`
	Finished  time.Time `json:"finished"`

	Reason     string  `json:"reason"`
	ExitStatus int     `json:"exit_status"`
	Raised     *string `json:"raised_signal"` // the signal by which graceful ends
	Escalated  bool    `json:"escalated"`     // SIGKILL was sent to the tree

	Target struct {
		PID        *int           `json:"pid"`
		Started    *time.Time     `json:"started"`
		Ended      *time.Time     `json:"ended"`
		DurationMS *int64         `json:"duration_ms"`
		ExitCode   *int           `json:"exit_code"`
		Signal     *string        `json:"signal"`
		Error      *string        `json:"error"` // reason why the target could not be started
		Usage      *machine.Usage `json:"usage"`
	} `json:"target"`

	Stop *Stop `json:"stop"`

	Received []Signalled `json:"signals_received"`
	Sent     []Signalled `json:"signals_sent"`
	Omitted  int         `json:"signals_omitted"` // number of signals that both lists together omit: see MaxListed

	Emptied *time.Time `json:"tree_emptied"` // time when the tree had no member left
	Killed  []Process  `json:"killed"`       // see History.RecordKilled
	Left    []Process  `json:"left"`         // processes that SIGKILL did not end

	Commands []Outcome `json:"commands"`
}

// Subject identifies the run of a report.
type Subject struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Command []string `json:"command"`
	Dir     string   `json:"dir"` // working directory in which the run was started
	PID     int      `json:"-"`   // pid of the process that the user started
}

// Stop describes how a stop began.
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

// Outcome describes the outcome of a command.
type Outcome struct {
	ID         int        `json:"id"`
	When       string     `json:"when"` // stop: an on-stop command; exit: a cleanup command
	Name       *string    `json:"name"`
	Command    string     `json:"command"` // see cleanup.Entry.Shown
	Dir        *string    `json:"dir"`     // null: the run's
	AwaitedPID *int       `json:"exits"`   // pid of the process whose end the command waits for
	PID        *int       `json:"pid"`
	Started    *time.Time `json:"started"`
	Ended      *time.Time `json:"ended"`
	DurationMS *int64     `json:"duration_ms"`
	Outcome    string     `json:"outcome"` // see outcomeOf
	ExitCode   *int       `json:"exit_code"`
	Signal     *string    `json:"signal"`
	Error      *string    `json:"error"`
	Discarded  []string   `json:"discarded"` // see cleanup.Entry.Discarded
}

// pointer returns a pointer to v. For the zero value it returns nil, which is null in the report.
func pointer[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

// signalName returns the name of a signal without SIG, or "" for 0.
func signalName(sig int) string {
	if sig == 0 {
		return ""
	}
	return forward.Name(syscall.Signal(sig))
}

// Report returns the report of a run that is done. The caller sets Version, Writer, Guard and Level.
func (h *History) Report(r machine.Run, now time.Time) Report {
	doc := h.doc
	doc.Finished, doc.Reason, doc.ExitStatus = now, r.Reason(), r.Status()
	doc.Raised, doc.Escalated = pointer(signalName(r.RaisedSignal())), r.Stop.Escalated
	doc.Killed, doc.Commands = processesOf(h.killed), []Outcome{}
	t := &doc.Target
	t.PID = pointer(r.Target.PID)
	if t.Ended != nil { // otherwise the target never ran, or its ending is unknown
		t.DurationMS, t.Signal = new(r.Target.Duration.Milliseconds()), pointer(signalName(r.Target.Ending.Signal))
		if t.Signal == nil {
			t.ExitCode = new(r.Target.Ending.Code)
		}
	}
	if doc.Stop != nil {
		doc.Stop = &Stop{doc.Stop.Began, pointer(signalName(r.Stop.Signal)), r.Stop.TimedOut}
	}
	for c := range r.Cleanup.Entries.All() {
		doc.Commands = append(doc.Commands, outcomeOf(*c, h.commands[c.ID]))
	}
	return doc
}

// processesOf converts processes for the report. The returned list is never nil, because nil would be null in the
// report.
func processesOf(from []procfs.Process) []Process {
	to := []Process{}
	for _, p := range from {
		to = append(to, Process{p.PID, p.Name})
	}
	return to
}

// outcomeOf returns the outcome of a command. life is the span of time during which the command ran. If the command was
// not started, life.from is zero.
func outcomeOf(c cleanup.Entry, life span) Outcome {
	o := Outcome{
		ID: c.ID, When: "exit", Name: pointer(c.Name), Command: c.Shown(), Dir: pointer(c.Dir),
		AwaitedPID: pointer(c.Awaited.PID), PID: pointer(life.pid), Started: pointer(life.from), Ended: pointer(life.to),
		Signal: pointer(signalName(c.Outcome.Signal)), Error: pointer(c.Outcome.Error), Outcome: "succeeded",
		Discarded: c.Discarded.Names(),
	}
	if c.When == cleanup.AtStop {
		o.When = "stop"
	}
	if o.Started != nil && o.Ended != nil {
		o.DurationMS = new(max(life.to.Sub(life.from).Milliseconds(), 0)) // the clock may have been set back
	}
	if c.Progress == cleanup.Ended && c.PID != 0 && o.Signal == nil && o.Error == nil {
		o.ExitCode = new(c.Outcome.Code)
	}
	switch {
	case c.Progress == cleanup.Withdrawn:
		o.Outcome = "withdrawn"
	case c.Progress == cleanup.Pending:
		o.Outcome = "not-run"
	case c.Outcome.Interrupted:
		o.Outcome = "interrupted"
	case c.Progress == cleanup.Claimed, c.Outcome.Unseen:
		o.Outcome = "unknown"
	case c.Cut:
		o.Outcome = "cut"
	case c.TimedOut:
		o.Outcome = "timed-out"
	case o.Started == nil && o.Error != nil:
		o.Outcome = "not-started"
	case c.Outcome.Failed():
		o.Outcome = "failed"
	}
	return o
}
