package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// Report is what a run came to, for programs. docs/report.schema.json describes it. A pid, time or status that there is
// none of is null.
type Report struct {
	Form    int    `json:"report"` // its version
	Version string `json:"version"`

	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Command    []string   `json:"command"`
	Dir        string     `json:"dir"`
	Level      tree.Level `json:"level"`
	PID        int        `json:"pid"` // of the process that the user started
	Supervisor *int       `json:"supervisor_pid"`
	Writer     int        `json:"writer_pid"` // who has brought the run to its end
	TakenOver  bool       `json:"taken_over"` // a process of graceful's was killed, and another has gone on
	Began      time.Time  `json:"began"`
	Finished   time.Time  `json:"finished"`

	Reason     string  `json:"reason"`
	ExitStatus int     `json:"exit_status"`
	Raised     *string `json:"raised_signal"` // graceful ends by it
	Escalated  bool    `json:"escalated"`

	Target struct {
		PID        *int       `json:"pid"`
		Started    *time.Time `json:"started"`
		Ended      *time.Time `json:"ended"`
		DurationMS *int64     `json:"duration_ms"`
		ExitCode   *int       `json:"exit_code"`
		Signal     *string    `json:"signal"`
		Error      *string    `json:"error"`
		Usage      *Usage     `json:"usage"`
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

const reportVersion = 1

func pointer[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

func signalName(sig int) string {
	if sig == 0 {
		return ""
	}
	return forward.Name(syscall.Signal(sig))
}

// report tells of a run that is done.
func (r Run) report(h *history, now time.Time) Report {
	doc := Report{
		Form: reportVersion, ID: r.ID, Name: r.Config.Name, Command: r.Config.Command, Dir: h.dir,
		PID: h.front, TakenOver: h.takenOver, Began: h.began, Finished: now,
		Reason: r.Reason(), ExitStatus: r.Status(), Raised: pointer(signalName(r.Raise())), Escalated: r.Escalated,
		Received: append([]Signalled{}, h.received...), Sent: append([]Signalled{}, h.sent...), Omitted: h.omitted,
		Emptied: pointer(h.emptied), Killed: processesOf(h.killed), Left: processesOf(h.left), Commands: []Outcome{},
	}
	t := &doc.Target
	t.PID, t.Started, t.Ended = pointer(r.TargetPID), pointer(h.started), pointer(h.ended)
	t.Error, t.Usage = pointer(h.failure), h.usage
	if t.Ended != nil { // else nobody knows how
		code, duration := r.Ending.Code, r.Duration.Milliseconds()
		if t.DurationMS = &duration; r.Ending.Signal == 0 {
			t.ExitCode = &code
		}
		t.Signal = pointer(signalName(r.Ending.Signal))
	}
	if !h.stopped.IsZero() {
		doc.Stop = &Stop{h.stopped, pointer(signalName(r.StopSignal)), r.TimedOut}
	}
	for _, c := range r.Cleanup.Entries {
		doc.Commands = append(doc.Commands, outcomeOf(*c, h.commands[c.ID]))
	}
	return doc
}

func processesOf(from []tree.Process) []Process {
	to := []Process{}
	for _, p := range from {
		to = append(to, Process{p.PID, p.Name})
	}
	return to
}

func outcomeOf(c cleanup.Entry, life span) Outcome {
	o := Outcome{
		ID: c.ID, When: "exit", Name: pointer(c.Name), Command: c.Command.Text, Dir: pointer(c.Dir), Exits: pointer(c.Exits.PID),
		PID: pointer(life.pid), Started: pointer(life.from), Ended: pointer(life.to),
		Signal: pointer(signalName(c.Outcome.Signal)), Error: pointer(c.Outcome.Error), Outcome: "succeeded",
	}
	if c.When == cleanup.AtStop {
		o.When = "stop"
	}
	if o.Started != nil && o.Ended != nil {
		duration := max(life.to.Sub(life.from).Milliseconds(), 0) // the clock may have been set back
		o.DurationMS = &duration
	}
	if code := c.Outcome.Code; c.Progress == cleanup.Ended && c.PID != 0 && o.Signal == nil && o.Error == nil {
		o.ExitCode = &code
	}
	switch {
	case c.Progress == cleanup.Withdrawn:
		o.Outcome = "withdrawn"
	case c.Progress == cleanup.Pending:
		o.Outcome = "not-run"
	case c.Outcome.Interrupted, c.Outcome.Error == wasInterrupted:
		o.Outcome = "interrupted"
	case c.Progress == cleanup.Claimed, c.Outcome.Error == wasUnseen: // nobody has waited for it, or could
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

// writeReport writes the report where one is wanted. Should it fail the run is what it was.
func (p *processes) writeReport(r Run, h *history) error {
	if h == nil {
		return nil
	}
	doc := r.report(h, time.Now())
	doc.Version, doc.Writer, doc.Supervisor = "unknown", unix.Getpid(), pointer(p.supervisor)
	if info, ok := debug.ReadBuildInfo(); ok {
		doc.Version = info.Main.Version
	}
	if doc.Level = p.tree.Level(); r.Cgroup != "" {
		doc.Level = tree.Cgroup
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // commands are full of <, > and &
	e.SetIndent("", "  ")
	err := e.Encode(doc)
	if err == nil {
		// The draft has the same name in every process of the run: what a killed one has left is removed by the next.
		err = p.report.Write(text.Bytes(), ".graceful-"+r.ID, min(time.Second, r.Config.patience()))
	}
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) { // the names in err are ours
			err = errno
		}
		return fmt.Errorf("writing report %s: %w", r.Config.Report, err)
	}
	return nil
}
