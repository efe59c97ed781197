package journal

import (
	"errors"
	"strings"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/runner/machine"
)

// This file divides ledger.MaxSize into room for the first record, room for all registrations, and room for all events
// that can follow. Without room, graceful could not record an event. If graceful were killed after that, a cleanup
// command could run twice.
const (
	// maxFirst is the maximum size of the first record and of the events of the stop schedule's steps, in bytes.
	maxFirst = ledger.MaxSize - machine.MaxRegistered - machine.MaxCommands*perCommand - perRun - MaxSignals*perSignal

	// perCommand is the maximum size of all events of one command after its registration, in bytes. These events are its
	// start and end, its timers, the end of the process that it waits for, a failed first start, two stop signals that cut
	// it short, and the end of its remaining processes.
	perCommand = 2<<10 + 256
	// perRun is the maximum size of the events of the run itself, in bytes.
	perRun = 32 << 10
	// perStep is the maximum size of the events of one step of the stop schedule, in bytes: its timer, and the sent
	// signals.
	perStep = 512
	// perSignal is the maximum size of a signal that is recorded for the report alone, in bytes.
	perSignal = 256

	// maxErrorText is the maximum size of the JSON form of an error in a record, in bytes.
	maxErrorText = 512
	// maxLackText is the maximum size of the JSON form of an error about a lack of resources, in bytes. It is smaller,
	// because another start may follow such an error, with another record.
	maxLackText = 128
)

// This line compiles only if maxFirst is large enough for the longest command line and environment of Linux, together
// 6 MiB (execve(2)). Each byte may be a control character, which takes 6 bytes in JSON.
const _ = uint(maxFirst - 6*6<<20)

// MaxSignals is the maximum number of signals that are recorded only for the report.
const MaxSignals = 1000

// ErrTooLarge is the error for a run whose arguments, environment or commands need more room than any ledger has.
var ErrTooLarge = errors.New("the run is too large")

// Room returns an upper bound of the total size of all later events of the run in the ledger, in bytes. It does not
// include registrations. signals is the number of signals that are recorded only for the report, at most MaxSignals.
func Room(r machine.Run, signals int) int64 {
	n := perRun + perStep*len(r.Policy.Steps()) + perSignal*signals
	return int64(n + perCommand*r.Cleanup.Entries.Open())
}

// shortened returns text if its JSON form has at most size bytes, or else text as valid UTF-8 if that fits. Otherwise
// it cuts text and adds an ellipsis.
func shortened(text cleanup.Text, size int) cleanup.Text {
	valid := strings.ToValidUTF8(string(text), "\ufffd") // after a cut, other bytes would have another encoding
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
