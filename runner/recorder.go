package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/runner/build"
	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/procfs"
	"graceful/runner/report"
	"graceful/runner/tree"
)

// This line compiles only if the report lists no more signals than are recorded for it.
const _ = uint(journal.MaxSignals - report.MaxListed)

// now returns the present time on both clocks.
func now() journal.Clock { return journal.Clock{Time: time.Now(), SinceBoot: process.SinceBoot()} }

// recorder records the events of a run, for the report and for a process that may resume the run.
type recorder struct {
	ledger        journal.Ledger  // nil: no process would read the ledger
	history       *report.History // nil: no report is wanted
	failureLogged bool            // a failure to write the ledger was logged
}

// event records an event before graceful acts on it. changed means that the event has changed the run (journal.Record).
// If the ledger cannot be written, event logs that once and returns the error, and the run continues. If graceful is
// killed after that, a cleanup command may run twice.
func (r *recorder) event(e machine.Event, changed bool, at time.Time, log *slog.Logger) error {
	if r.ledger == nil {
		return nil
	}
	clock := journal.Clock{Time: at, SinceBoot: process.SinceBoot()}
	record, err := journal.Record(e, changed, r.history.HasRoomForSignal(), clock)
	if err == nil && record != nil {
		err = r.ledger.Append(record)
	}
	if err != nil && !r.failureLogged {
		r.failureLogged = true
		log.Warn("writing the ledger", "err", err,
			"hint", "should graceful be killed now, a cleanup command may run twice")
	}
	return err
}

// recordBegin writes the first record of a run that is about to start.
func recordBegin(l journal.Ledger, r Run, sys *realSystem) error {
	config, err := cleanup.EncodeJSON(r.Config)
	if err != nil {
		return err
	}
	saved, err := sys.terminal.Save()
	if sys.pty.PTY != nil {
		saved, err = sys.pty.Save()
	}
	if err != nil {
		return err
	}
	b := journal.Begin{
		ID: r.ID, Name: cleanup.Text(r.Config.Name),
		Command: cleanup.Texts(r.Config.Command), Env: cleanup.Texts(r.Config.Env),
		Report: cleanup.Text(r.Config.Report), Cgroup: cleanup.Text(r.Cgroup), Socket: cleanup.Text(r.Socket), Config: config,
		Ignored: sys.inherited.Ignored, Blocked: sys.inherited.Blocked, Terminal: saved,
		Front: os.Getpid(), Followed: procfs.IsFollowedByInit(), Boot: procfs.Boot(), Dir: cleanup.Text(r.dir()),
	}
	if r.Config.StateDir != "" { // without StateDir no process of another machine can read the ledger
		b.Machine = originHere().Machine
	}
	for c := range r.Cleanup.Entries.All() {
		b.Commands = append(b.Commands, *c)
	}
	return journal.Start(l, b, r.Run, r.signals(), now())
}

// dir returns the working directory for the ledger and the report, or "" if its path is unknown.
func (r Run) dir() string {
	if r.Dir != "" {
		return r.Dir
	}
	dir, _ := os.Getwd() // a missing directory affects only recover
	return dir
}

// signals returns the maximum number of signals that are recorded only for the report.
func (r Run) signals() int {
	if r.Config.Report == "" {
		return 0
	}
	return journal.MaxSignals
}

// recordedRun is a run that was read from its ledger, or a new run in the same form.
type recordedRun struct {
	journal.Replayed
	run     Run
	history *report.History // nil: no report is wanted
	ledger  *ledger.Ledger  // nil: the run has none
}

// newRecordedRun returns a new run in the form of a run that was read from a ledger. l may be nil.
func newRecordedRun(r Run, l *ledger.Ledger) recordedRun {
	now := time.Now()
	return recordedRun{
		Replayed: journal.Replayed{Began: now}, run: r, history: newHistory(r, unix.Getpid(), r.dir(), now), ledger: l,
	}
}

// read returns the run of a ledger. The error is journal.ErrEmpty if the run never began.
func read(l *ledger.Ledger) (recordedRun, error) {
	records, err := l.Records()
	if err != nil {
		return recordedRun{}, err
	}
	rec, err := replayRun(records)
	rec.ledger = l
	if err != nil && !errors.Is(err, journal.ErrEmpty) {
		err = fmt.Errorf("reading %s: %w", l, err)
	}
	return rec, err
}

// replayRun replays the records of a ledger.
func replayRun(records []json.RawMessage) (rec recordedRun, err error) {
	begun := func(b journal.Begin, at time.Time) (machine.Run, journal.Observer, error) {
		var recorded struct {
			Config
			KillOnRepeat bool // in a ledger of an earlier version
		}
		if err := json.Unmarshal(b.Config, &recorded); err != nil {
			return machine.Run{}, nil, err
		}
		config := recorded.Config
		if recorded.KillOnRepeat {
			config.OnRepeat = machine.RepeatKill
		}
		config.Command, config.Env = cleanup.Strings(b.Command), cleanup.Strings(b.Env)
		config.Name, config.Report = string(b.Name), string(b.Report)
		for _, c := range b.Commands {
			if c.When == cleanup.AtStop {
				config.OnStop = append(config.OnStop, c.Command)
			} else {
				config.OnExit = append(config.OnExit, c.Command)
			}
		}
		rec.run = newRun(b.ID, config)
		rec.run.Cgroup, rec.run.Socket = string(b.Cgroup), string(b.Socket)
		rec.history = newHistory(rec.run, b.Front, string(b.Dir), at)
		return rec.run.Run, rec.history, config.check()
	}
	rec.run.Run, rec.Replayed, err = journal.Replay(records, now(), procfs.Boot(), begun)
	return rec, err
}

// newHistory returns the history of a run for its report, or nil if the run writes no report.
func newHistory(r Run, pid int, dir string, began time.Time) *report.History {
	if r.Config.Report == "" {
		return nil
	}
	subject := report.Subject{ID: r.ID, Name: r.Config.Name, Command: r.Config.Command, Dir: dir, PID: pid}
	return report.NewHistory(subject, began)
}

// writeReport writes the report of a run. If the history is nil, the run writes no report.
func (sys *realSystem) writeReport(r Run, h *report.History) error {
	if h == nil {
		return nil
	}
	doc := h.Report(r.Run, time.Now())
	doc.Version, doc.Writer = build.Read().Version, unix.Getpid()
	if sys.guard != nil {
		pid := sys.guard.PID()
		doc.Guard = &pid
	}
	if doc.Level = string(sys.Level()); r.Cgroup != "" {
		doc.Level = string(tree.Cgroup)
	}
	text, err := cleanup.EncodeIndentedJSON(doc)
	if err == nil {
		// All processes of the run use the same name for the draft. So each process replaces the draft of a killed
		// process.
		err = sys.report.Write(text, ".graceful-"+r.ID, min(time.Second, r.Patience()))
	}
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) { // omit the names of files that mean nothing to the user
			err = errno
		}
		return fmt.Errorf("writing report %s: %w", r.Config.Report, err)
	}
	return nil
}
