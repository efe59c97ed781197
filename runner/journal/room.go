package journal

import (
	"errors"
	"strings"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/runner/machine"
)

// How much room a run takes in its ledger. ledger.MaxSize is divided: there is room for the first record, for all
// registrations, and for every event that can follow. An event without room could not be recorded, and should graceful
// be killed then, a cleanup command would run twice.
const (
	// maxFirst bounds the first record, and the events of the steps of the stop schedule, in bytes.
	maxFirst = ledger.MaxSize - machine.MaxRegistered - machine.MaxCommands*perCommand - perRun - MaxSignals*perSignal

	// perCommand is for all events of one command that follow its registration: it is started and ends, its timers, the
	// end of the process that it waits for, two stop signals that cut it short, and the end of what it has left.
	perCommand = 2 << 10
	// perRun is for the events of the run itself.
	perRun = 8 << 10
	// perStep is for the event of one step of the stop schedule.
	perStep = 256
	// perSignal is for a signal that is recorded for the report alone.
	perSignal = 256
	// overhead is what a record takes in the ledger besides its JSON form.
	overhead = ledger.Overhead

	// maxErrorText bounds the JSON form of an error in a record, in bytes.
	maxErrorText = 512
)

// The division leaves room for the first record of the longest command line that Linux executes (6 MiB, execve(2)), all
// of it control characters, each of which takes 6 bytes.
const _ = uint(maxFirst - 6*6<<20)

// MaxSignals is how many signals at the most are recorded for the report alone.
const MaxSignals = 1000

// ErrTooLarge tells that a run has more arguments, environment or commands than there is room for in a ledger.
var ErrTooLarge = errors.New("the run is too large")

// Room is an upper bound of what all later events of the run take in the ledger, in bytes, but for registrations. signals is
// the number of signals that the report may want to have recorded, MaxSignals at the most.
func Room(r machine.Run, signals int) int64 {
	n := perRun + perStep*len(r.Policy.Steps()) + perSignal*signals
	for _, c := range r.Cleanup.Entries {
		if c.Progress < cleanup.Ended {
			n += perCommand
		}
	}
	return int64(n)
}

// shortened is an error for a record, of maxErrorText bytes at the most.
func shortened(text cleanup.Text) cleanup.Text {
	valid := strings.ToValidUTF8(string(text), "\ufffd") // the beginning of other bytes would take another form
	for _, whole := range []cleanup.Text{text, cleanup.Text(valid)} {
		if whole.Size() <= maxErrorText {
			return whole
		}
	}
	const more = "…"
	end := 0
	for i := range valid {
		if cleanup.Text(valid[:i]).Size()+len(more) > maxErrorText {
			break
		}
		end = i
	}
	return cleanup.Text(valid[:end] + more)
}
