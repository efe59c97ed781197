package runner

import (
	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/tree"
)

// GuardByDefault reports whether a run without flags starts a guard. Like all functions in this file, it serves package
// doctor and uses the code of a run, so that the doctor finds the same problems as a run.
func GuardByDefault() bool { return GuardAuto.wanted() }

// ProbeShell returns an error if cleanup commands in shell form cannot run.
func ProbeShell() error { return unix.Access(cleanup.Shell, unix.X_OK) }

// ProbeRequest returns an error if a run with --defer auto would not admit the process that has sent the request c.
func ProbeRequest(c registry.Call) error { return (&realSystem{deferChoice: DeferAuto}).admit(c) }

// ProbeParent reports whether the process that started graceful counts as ended (see watchParent). A run with
// --die-with-parent would then start nothing. The error is the reason why graceful cannot watch that process.
func ProbeParent() (ended bool, err error) {
	_, ended, err = watchParent(Config{})
	return ended, err
}

// ProbeLedger writes the first record of a run that never starts.
func ProbeLedger(l *ledger.Ledger) error {
	r := newRun(NewID(), Config{
		Command: []string{"doctor"}, Name: "doctor", Contain: tree.Auto,
		Policy: machine.Policy{
			Order: cleanup.LIFO, ForwardTo: machine.ForwardToGroup, Survivors: machine.StopSurvivors,
		},
	})
	return recordBegin(l, r, &realSystem{inherited: process.ReadInherited()})
}

// IsDone reports whether the run of a ledger is done. The error is journal.ErrEmpty if no run is recorded.
func IsDone(l *ledger.Ledger) (bool, error) {
	rec, err := read(l)
	return err == nil && rec.run.State == machine.Done, err
}
