package runner

import (
	"strings"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
)

// How much room a run takes in its ledger. ledger.MaxSize is divided: there is room for the first record, for all
// registrations, and for every event that can follow. An event that has no room is not recorded. Should graceful be
// killed then, a cleanup command runs twice.
const (
	// maxCommands bounds the cleanup commands and on-stop commands of a run.
	maxCommands = 1 << 16
	// maxRegistered bounds the records of all registrations, in bytes (see sizeOf).
	maxRegistered = 64 << 20
	// maxFirst bounds the first record, and the events of the steps of the stop schedule, in bytes.
	maxFirst = ledger.MaxSize - maxRegistered - maxCommands*perCommand - perRun - perHistory

	// perCommand is for the events of one command after its registration: it is started and ends, its timers expire, the
	// process that it waits for ends, two stop signals cut it short, and what it has left ends.
	perCommand = 2 << 10
	// perRun is for the events of the run itself.
	perRun = 8 << 10
	// perStep is for the event of one step of the stop schedule.
	perStep = 256
	// perHistory is for the signals that are recorded for the report alone.
	perHistory = historyLimit << 8

	// registrationSize is for the record of a registration without its texts.
	registrationSize = 344
	// maxErrorText bounds the JSON form of an error in a record, in bytes.
	maxErrorText = 512
)

// The first record may hold the longest command line and environment that Linux executes, which is 6 MiB (execve(2)),
// also when all of it is control characters, each of which takes 6 bytes.
const _ = uint(maxFirst - 6*6<<20)

// sizeOf returns an upper bound of the size of the record of a registration in the ledger, in bytes.
func sizeOf(c cleanup.Entry) int {
	n := registrationSize
	for _, text := range []string{c.Command.Text, c.Name, c.Dir, c.Key} {
		n += ledger.Text(text).Size()
	}
	for _, text := range c.Command.Args {
		n += ledger.Text(text).Size() + len(",")
	}
	if c.EnvOf == 0 {
		for _, text := range c.Env {
			n += ledger.Text(text).Size() + len(",")
		}
	}
	return n
}

// room returns an upper bound of the size of all later events of the run in the ledger, in bytes. Registrations are not
// among them.
func (r Run) room() int64 {
	n := perRun + r.Config.room()
	for _, c := range r.Cleanup.Entries {
		if c.Progress < cleanup.Ended {
			n += perCommand
		}
	}
	return int64(n)
}

// room returns the part of it that depends on the configuration.
func (c Config) room() int {
	n := perStep * len(c.steps())
	if c.Report != "" {
		n += perHistory
	}
	return n
}

// errorText returns the text of an error for a record, shortened to maxErrorText.
func errorText(text string) ledger.Text {
	valid := strings.ToValidUTF8(text, "\ufffd") // the beginning of other bytes would take another form
	for _, whole := range []ledger.Text{ledger.Text(text), ledger.Text(valid)} {
		if whole.Size() <= maxErrorText {
			return whole
		}
	}
	const more = "…"
	end := 0
	for i := range valid {
		if ledger.Text(valid[:i]).Size()+len(more) > maxErrorText {
			break
		}
		end = i
	}
	return ledger.Text(valid[:end] + more)
}
