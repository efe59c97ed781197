package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
)

// Replayed is a run as its records tell it.
type Replayed struct {
	Begin   Begin
	Run     machine.Run
	Began   time.Time
	Start   time.Duration         // the same, since boot
	Last    time.Duration         // from then to the last record
	Claimed map[int]time.Duration // when each running command was claimed, since boot
}

// Observer is told of the same events again, for the report. Times are those of the records.
type Observer interface {
	Happened(before, after machine.Run, e machine.Event, at time.Time)
	Did(r machine.Run, a machine.Action, at time.Time)
}

// ErrEmpty tells that the ledger's writer was killed before it had recorded how the run began.
var ErrEmpty = errors.New("the ledger is empty")

// Replay applies the events of a ledger to the machine again. Deadlines of the time before the last boot begin now; boot names
// the present one (procfs.Boot). begin is called with the first record, and returns what is told of the events.
func Replay(records []json.RawMessage, now Clock, boot string, begin func(Begin, time.Time) (Observer, error)) (Replayed, error) {
	var m Replayed
	if len(records) == 0 {
		return m, ErrEmpty
	}
	var first header
	if err := json.Unmarshal(records[0], &first); err != nil {
		return m, fmt.Errorf("line 1: %w", err)
	}
	if first.Version != Version || first.Begin == nil {
		return m, fmt.Errorf("its version is %d, and this program knows %d", first.Version, Version)
	}
	m.Begin, m.Start, m.Claimed = *first.Begin, first.Clock, map[int]time.Duration{}
	run, err := m.Begin.run()
	var observer Observer
	if err == nil {
		observer, err = begin(m.Begin, first.Time)
	}
	if err != nil {
		return m, fmt.Errorf("line 1: %w", err)
	}
	sameBoot := m.Begin.Boot == boot
	at := func(h header) time.Time {
		if sameBoot {
			return now.Time.Add(h.Clock - now.Boots)
		}
		return now.Time
	}
	m.Run, m.Began = run, at(first)
	for i, record := range records[1:] {
		var h header
		err := json.Unmarshal(record, &h)
		var e machine.Event
		if err == nil {
			e, err = h.event(record, m.Run)
		}
		if err != nil {
			return m, fmt.Errorf("line %d: %w", i+2, err)
		}
		before := m.Run
		var todo []machine.Action
		m.Run, todo = machine.Advance(m.Run, e, at(h))
		observer.Happened(before, m.Run, e, h.Time)
		for _, a := range todo {
			observer.Did(m.Run, a, h.Time)
		}
		if m.Last = h.Time.Sub(first.Time); sameBoot {
			m.Last = h.Clock - m.Start
		}
		for _, id := range m.Run.Cleanup.Active {
			if was, _ := before.Cleanup.Get(id); was.Progress != cleanup.Claimed {
				m.Claimed[id] = h.Clock
			}
		}
	}
	return m, nil
}
