package journal

import (
	"errors"
	"strings"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/runner/machine"
)

// This file divides ledger.MaxSize into room for the first record, for all registrations, and for all events that can
// follow. An event without room could not be recorded. If graceful were killed then, a cleanup command would run twice.
const (
	// maxFirst is the maximum size of the first record and of the events of the stop schedule's steps, in bytes.
	maxFirst = ledger.MaxSize - machine.MaxRegistered - machine.MaxCommands*perCommand - perRun - MaxSignals*perSignal

	// perCommand is the maximum size of the events of one command after its registration, in bytes. They are its start
	// and end, its timers, the end of its awaited process, a failed first start, and two stop signals that cut it
	// short. The end of its remaining processes is one more.
	perCommand = 2<<10 + 256
	// perRun is the maximum size of the events of the run itself, in bytes.
	perRun = 32 << 10
	// perStep is the maximum size of the events of one step of the stop schedule, in bytes: its timer, and what was sent.
	perStep = 512
	// perSignal is the maximum size of a signal that is recorded for the report alone, in bytes.
	perSignal = 256

	// maxErrorText is the maximum size of the JSON form of an error in a record, in bytes.
	maxErrorText = 512
	// maxLackText is that size for an error about a lack of resources. Another start may follow such an error.
	maxLackText = 128
)

// maxFirst has room for the longest command line that Linux executes: 6 MiB (execve(2)). Each of its bytes may be a
// control character, which takes 6 bytes.
const _ = uint(maxFirst - 6*6<<20)

// MaxSignals is the maximum number of signals that are recorded for the report alone.
const MaxSignals = 1000

// ErrTooLarge is the error of a run with arguments, environment or commands that exceed the room of every ledger.
var ErrTooLarge = errors.New("the run is too large")

// Room returns an upper bound of the size of all later events of the run in the ledger, in bytes, without
// registrations. signals is the number of signals that are recorded for the report alone, at most MaxSignals.
func Room(r machine.Run, signals int) int64 {
	n := perRun + perStep*len(r.Policy.Steps()) + perSignal*signals
	return int64(n + perCommand*r.Cleanup.Entries.Open())
}

// shortened returns the first of these that takes at most size bytes: text, text as valid UTF-8, text cut with an
// ellipsis.
func shortened(text cleanup.Text, size int) cleanup.Text {
	valid := strings.ToValidUTF8(string(text), "\ufffd") // if it is cut, other bytes would be encoded differently
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
