package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/forward"

	"golang.org/x/sys/unix"
)

// Report is what a run came to, for programs. docs/report.schema.json describes it. A pid, time or status that there is
// none of is null.
type Report struct {
	Version    int       `json:"report"` // of this form
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Command    []string  `json:"command"`
	PID        int       `json:"pid"` // of the process that the user started
	Supervisor *int      `json:"supervisor_pid"`
	Writer     int       `json:"writer_pid"` // who has brought the run to its end
	TakenOver  bool      `json:"taken_over"` // a process of graceful's was killed, and another has gone on
	Reason     string    `json:"reason"`
	ExitStatus int       `json:"exit_status"`
	Raised     *string   `json:"raised_signal"` // graceful ends by it
	Began      time.Time `json:"began"`
	Finished   time.Time `json:"finished"`

	Target struct {
		PID        *int       `json:"pid"`
		Started    *time.Time `json:"started"`
		Ended      *time.Time `json:"ended"`
		DurationMS *int64     `json:"duration_ms"`
		ExitCode   *int       `json:"exit_code"`
		Signal     *string    `json:"signal"`
		Usage      *Usage     `json:"usage"`
	} `json:"target"`

	Stop *struct {
		Began     time.Time `json:"began"`
		Signal    *string   `json:"signal"`
		TimedOut  bool      `json:"timed_out"`
		Escalated bool      `json:"escalated"`
	} `json:"stop"`

	Received         []Signalled `json:"signals_received"`
	Sent             []Signalled `json:"signals_sent"`
	Omitted          int         `json:"signals_omitted"`
	SurvivorsEmptied *time.Time  `json:"tree_emptied"`
	SurvivorsKilled  []Killed    `json:"survivors_killed"`
	Commands         []Outcome   `json:"commands"`
}

// Killed is a process that SIGKILL was sent to after the target's end.
type Killed struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

// Outcome is what became of a command of the run's.
type Outcome struct {
	ID         int        `json:"id"`
	When       string     `json:"when"` // stop, exit
	Command    string     `json:"command"`
	PID        *int       `json:"pid"`
	Started    *time.Time `json:"started"`
	Ended      *time.Time `json:"ended"`
	DurationMS *int64     `json:"duration_ms"`
	Outcome    string     `json:"outcome"` // succeeded, failed, timed-out, cut, not-started, interrupted, not-run
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
func (r Run) report(h *history, writer int, now time.Time) Report {
	doc := Report{
		Version: reportVersion, ID: r.ID, Name: r.Config.Name, Command: r.Config.Command,
		PID: h.front, Writer: writer, TakenOver: h.takenOver,
		Reason: r.Reason(), ExitStatus: r.Status(), Raised: pointer(signalName(r.Raise())), Began: h.began, Finished: now,
		Received: append([]Signalled{}, h.received...), Sent: append([]Signalled{}, h.sent...), Omitted: h.omitted,
		SurvivorsEmptied: pointer(h.emptied), SurvivorsKilled: []Killed{}, Commands: []Outcome{},
	}
	t := &doc.Target
	t.PID, t.Started, t.Ended, t.Usage = pointer(r.TargetPID), pointer(h.started), pointer(h.ended), h.usage
	if t.PID != nil && !r.Recovered { // else nobody knows
		code, duration := r.Ending.Code, r.Duration.Milliseconds()
		if t.DurationMS = &duration; r.Ending.Signal == 0 {
			t.ExitCode = &code
		}
		t.Signal = pointer(signalName(r.Ending.Signal))
	}
	if !h.stopped.IsZero() {
		doc.Stop = &struct {
			Began     time.Time `json:"began"`
			Signal    *string   `json:"signal"`
			TimedOut  bool      `json:"timed_out"`
			Escalated bool      `json:"escalated"`
		}{h.stopped, pointer(signalName(r.StopSignal)), r.TimedOut, r.Escalated}
	}
	for _, p := range h.killed {
		doc.SurvivorsKilled = append(doc.SurvivorsKilled, Killed{p.PID, p.Name})
	}
	for _, c := range r.Cleanup.Entries {
		doc.Commands = append(doc.Commands, outcomeOf(c, h.commands[c.ID]))
	}
	return doc
}

func outcomeOf(c cleanup.Entry, when span) Outcome {
	o := Outcome{
		ID: c.ID, When: "exit", Command: c.Command.Text, PID: pointer(c.PID), Started: pointer(when.from), Ended: pointer(when.to),
		Signal: pointer(signalName(c.Outcome.Signal)), Error: pointer(c.Outcome.Error), Outcome: "succeeded",
	}
	if c.When == cleanup.AtStop {
		o.When = "stop"
	}
	if o.Started != nil && o.Ended != nil {
		duration := when.to.Sub(when.from).Milliseconds()
		o.DurationMS = &duration
	}
	if code := c.Outcome.Code; c.Progress == cleanup.Ended && c.PID != 0 && o.Signal == nil && o.Error == nil {
		o.ExitCode = &code
	}
	switch {
	case c.Progress == cleanup.Pending:
		o.Outcome = "not-run"
	case c.Outcome.Interrupted, c.Progress == cleanup.Claimed: // one that did not die
		o.Outcome = "interrupted"
	case c.Cut:
		o.Outcome = "cut"
	case c.TimedOut:
		o.Outcome = "timed-out"
	case c.PID == 0 && o.Error != nil:
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
	doc := r.report(h, unix.Getpid(), time.Now())
	if p.front != 0 {
		pid := unix.Getpid()
		doc.Supervisor = &pid
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err == nil {
		err = replaceFile(r.Config.Report, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// replaceFile writes a file as a whole or not at all, and where a symbolic link points. What is no regular file, a FIFO
// or a terminal, cannot be replaced and is written to, if somebody is there to read.
func replaceFile(path string, text []byte) error {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		_ = f.SetWriteDeadline(time.Now().Add(reportPatience))
		_, err = f.Write(text)
		return errors.Join(err, f.Close())
	}
	dir, name := filepath.Split(path)
	file := filepath.Join(dir, fmt.Sprintf(".%s.%d", strings.TrimPrefix(name, "."), unix.Getpid()))
	_ = os.Remove(file) // of a process of our number that was killed
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = bytes.NewReader(text).WriteTo(f)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(file, path)
	}
	if err != nil {
		if gone := os.Remove(file); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// reportPatience is for a reader that does not read.
const reportPatience = time.Second
