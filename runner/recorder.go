package runner

import (
	"log/slog"
	"time"

	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/report"
)

// recorder records the events of a run, for a process that may have to resume the run, and for the report.
type recorder struct {
	ledger    journal.Ledger  // nil: no process would read it
	history   *report.History // nil: no report is wanted
	unwritten bool            // a warning was logged that the ledger cannot be written
}

// event records an event before graceful acts on it. If the ledger cannot be written, it logs that once, and the run
// continues: its promises hold unless graceful is killed.
func (r *recorder) event(e machine.Event, changed bool, at time.Time, log *slog.Logger) error {
	if r.ledger == nil {
		return nil
	}
	clock := journal.Clock{Time: at, Boots: process.SinceBoot()}
	record, err := journal.Record(e, changed, r.history.Wants(), clock)
	if err == nil && record != nil {
		err = r.ledger.Append(record)
	}
	if err != nil && !r.unwritten {
		r.unwritten = true
		log.Warn("writing the ledger", "err", err,
			"hint", "should graceful be killed now, a cleanup command may run twice")
	}
	return err
}
