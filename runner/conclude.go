package runner

import (
	"errors"
	"log/slog"
	"slices"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
)

// errCommands means that a run was finished, and that a cleanup command failed or was interrupted. The log names it.
var errCommands = errors.New("not every cleanup command succeeded")

// conclude removes the socket and the ledger of a dead run that is done. It logs which commands were interrupted,
// because the process that should have done so may have been killed. The ledger of such a run is set aside.
func conclude(r Run, runLedger *ledger.Ledger, log *slog.Logger) error {
	registry.Remove(r.Socket)
	commands := interrupted(r)
	for _, c := range commands {
		log := logCommand(log, *c)
		log.Warn("cleanup command interrupted", "err", "it is not run again",
			"hint", "graceful recover --retry-interrupted")
	}
	if len(commands) == 0 {
		return discard(runLedger)
	}
	if err := runLedger.SetAside(ledger.Interrupted); err != nil {
		return err
	}
	return errCommands
}

// discard removes a ledger. A nil ledger is none.
func discard(runLedger *ledger.Ledger) error {
	if runLedger == nil {
		return nil
	}
	return runLedger.Remove()
}

// interrupted lists the cleanup commands that were started and whose end was not recorded.
func interrupted(r Run) (commands []*cleanup.Entry) {
	return slices.DeleteFunc(slices.Clone(r.Cleanup.Entries), func(c *cleanup.Entry) bool {
		return c.When != cleanup.AtExit || !c.Outcome.Interrupted
	})
}
