package runner

import (
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
	maxFirst = ledger.MaxSize - machine.MaxRegistered - machine.MaxCommands*perCommand - perRun - perHistory

	// perCommand is for all events of one command that follow its registration: it is started and ends, its timers, the
	// end of the process that it waits for, two stop signals that cut it short, and the end of what it has left.
	perCommand = 2 << 10
	// perRun is for the events of the run itself.
	perRun = 8 << 10
	// perStep is for the event of one step of the stop schedule.
	perStep = 256
	// perHistory is for the signals that are recorded for the report alone.
	perHistory = historyLimit << 8

	// maxErrorText bounds the JSON form of an error in a record, in bytes.
	maxErrorText = 512
)

// The division leaves room for the first record of the longest command line that Linux executes (6 MiB, execve(2)), all
// of it control characters, each of which takes 6 bytes.
const _ = uint(maxFirst - 6*6<<20)

// room is an upper bound of what all later events of the run take in the ledger, in bytes, but for registrations.
func (r Run) room() int64 {
	n := perRun + r.Config.room()
	for _, c := range r.Cleanup.Entries {
		if c.Progress < cleanup.Ended {
			n += perCommand
		}
	}
	return int64(n)
}

// room is the part of it that depends on what was asked for.
func (c Config) room() int {
	n := perStep * len(c.Steps())
	if c.Report != "" {
		n += perHistory
	}
	return n
}

// errorText is an error for a record, shortened to maxErrorText.
func errorText(text string) cleanup.Text {
	valid := strings.ToValidUTF8(text, "\ufffd") // the beginning of other bytes would take another form
	for _, whole := range []cleanup.Text{cleanup.Text(text), cleanup.Text(valid)} {
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
