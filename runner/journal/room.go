package journal

import (
	"errors"
	"strings"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/runner/machine"
)

// This file divides ledger.MaxSize: there is room for the first record, for all registrations, and for all events that
// can follow. An event without room could not be recorded. If graceful were killed then, a cleanup command would run
// twice.
const (
	// maxFirst bounds the first record and the events of the steps of the stop schedule, in bytes.
	maxFirst = ledger.MaxSize - machine.MaxRegistered - machine.MaxCommands*perCommand - perRun - MaxSignals*perSignal

	// perCommand bounds the events of one command after its registration, in bytes. They are its start and end, its
	// timers, the end of the process that it waits for, a first start that failed, and two stop signals that cut it
	// short. The end of what it left behind is one more.
	perCommand = 2<<10 + 256
	// perRun bounds the events of the run itself, in bytes.
	perRun = 32 << 10
	// perStep bounds the event of one step of the stop schedule, in bytes.
	perStep = 256
	// perSignal bounds a signal that is recorded for the report alone, in bytes.
	perSignal = 256

	// maxErrorText bounds the JSON form of an error in a record, in bytes.
	maxErrorText = 512
	// maxLackText bounds the JSON form of an error that tells of a lack of something. Another start may follow it.
	maxLackText = 128
)

// maxFirst has room for the longest command line that Linux executes: 6 MiB (execve(2)). Each of its bytes may be a
// control character, which takes 6 bytes.
const _ = uint(maxFirst - 6*6<<20)

// MaxSignals bounds the number of signals that are recorded for the report alone.
const MaxSignals = 1000

// ErrTooLarge is the error of a run whose arguments, environment or commands no ledger has room for.
var ErrTooLarge = errors.New("the run is too large")

// Room returns an upper bound of what all later events of the run take in the ledger, in bytes, without registrations.
// signals is the number of signals that are recorded for the report alone, MaxSignals at most.
func Room(r machine.Run, signals int) int64 {
	n := perRun + perStep*len(r.Policy.Steps()) + perSignal*signals
	return int64(n + perCommand*r.Cleanup.Entries.Open())
}

// shortened returns text as it is, or as valid UTF-8, or cut with an ellipsis: the first that takes size bytes at most.
func shortened(text cleanup.Text, size int) cleanup.Text {
	valid := strings.ToValidUTF8(string(text), "\ufffd") // cut, other bytes would be encoded differently
	for _, whole := range []cleanup.Text{text, cleanup.Text(valid)} {
		if whole.Size() <= size {
			return whole
		}
	}
	const ellipsis = "…"
	end := 0
	for i := range valid {
		if cleanup.Text(valid[:i]).Size()+len(ellipsis) > size {
			break
		}
		end = i
	}
	return cleanup.Text(valid[:end] + ellipsis)
}
