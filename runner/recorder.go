package runner

import (
	"log/slog"
	"time"

	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/report"
)

// recorder keeps a run's events: for the process that may have to resume it, and for the report.
type recorder struct {
	ledger    journal.Ledger  // nil: no process could read it
	history   *report.History // nil: no report is wanted
	unwritten bool            // a warning has said that the ledger cannot be written
}

// event records an event before graceful acts on it. A ledger that cannot be written is logged once, and the run goes on: its
// promise holds as long as graceful is not killed.
func (r *recorder) event(e machine.Event, changed bool, at time.Time, log *slog.Logger) error {
	if r.ledger == nil {
		return nil
	}
	record, err := journal.Record(e, changed, r.history.Wants(), journal.Clock{Time: at, Boots: process.SinceBoot()})
	if err == nil && record != nil {
		err = r.ledger.Append(record)
	}
	if err != nil && !r.unwritten {
		r.unwritten = true
		log.Warn("writing the ledger", "err", err, "hint", "should graceful be killed now, a cleanup command may run twice")
	}
	return err
}
