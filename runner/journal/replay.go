package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"graceful/runner/machine"
)

// Replayed is the result of Replay, without the state of the run.
type Replayed struct {
	Begin Begin
	Began time.Time     // beginning of the run on the present wall clock; after a reboot: the time of the replay
	Start time.Duration // time since boot at the beginning of the run
	Last  time.Duration // time from the beginning of the run to the last record
}

// Observer receives the events and the actions of a replay, for the report. Times are those of the records.
type Observer interface {
	RecordEvent(before, after machine.Run, e machine.Event, at time.Time)
	RecordAction(r machine.Run, a machine.Action, at time.Time)
}

// ErrEmpty is the error for a ledger without the beginning of a run. The process that created the ledger was killed
// before it wrote the beginning.
var ErrEmpty = errors.New("the ledger is empty")

// Replay applies the events of a ledger to the machine. boot identifies the present boot (procfs.Boot). Timers from an
// earlier boot start anew. Replay calls begin with the first record. begin returns the run at its beginning, and the
// observer of the other records.
func Replay(
	records []json.RawMessage, now Clock, boot string, begin func(Begin, time.Time) (machine.Run, Observer, error),
) (run machine.Run, p Replayed, err error) {
	if len(records) == 0 {
		return run, p, ErrEmpty
	}
	var first header
	if err := json.Unmarshal(records[0], &first); err != nil {
		return run, p, fmt.Errorf("line 1: %w", err)
	}
	if first.Version < oldest || first.Version > Version || first.Begin == nil {
		return run, p, fmt.Errorf("its version is %d, and this program knows %d to %d", first.Version, oldest, Version)
	}
	p = Replayed{Begin: *first.Begin, Start: first.Clock}
	run, observer, err := begin(p.Begin, first.Time)
	if err != nil {
		return run, p, fmt.Errorf("line 1: %w", err)
	}
	// at converts the time of a record to the present wall clock, which may have been changed since. After a reboot it
	// returns the present time.
	sameBoot := p.Begin.Boot == boot
	at := func(h header) time.Time {
		if sameBoot {
			return now.Time.Add(h.Clock - now.SinceBoot)
		}
		return now.Time
	}
	p.Began = at(first)
	for i, record := range records[1:] {
		var h header
		var e machine.Event
		err := json.Unmarshal(record, &h)
		if err == nil {
			e, err = h.event(record, run)
		}
		if err != nil {
			return run, p, fmt.Errorf("line %d: %w", i+2, err)
		}
		before := run
		var todo []machine.Action
		run, todo = machine.Advance(before, e, at(h))
		observer.RecordEvent(before, run, e, h.Time)
		for _, a := range todo {
			observer.RecordAction(run, a, h.Time)
		}
		if p.Last = h.Time.Sub(first.Time); sameBoot {
			p.Last = h.Clock - p.Start
		}
	}
	return run, p, nil
}
