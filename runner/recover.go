package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"graceful/cleanup/ledger"
	"graceful/runner/journal"
	"graceful/runner/tree"
)

// Recovery is what Recover is asked for.
type Recovery struct {
	StateDir       string
	StrictStateDir bool   // it is an error if another user can replace StateDir
	Name           string // of the only run to finish; "": all runs
	Retry          bool   // run interrupted commands again
}

// Recovered is what Recover did.
type Recovered struct {
	Failed  int            // runs that could not be finished, or a command of which failed or was interrupted
	Stopped syscall.Signal // the signal that stopped Recover between two runs, or 0
}

// Recover finishes the runs in a state directory whose processes of graceful were all killed. Like Do it takes over the
// process. An error means that it finished no run; ErrSetup is one such error.
func Recover(want Recovery, log *slog.Logger) (done Recovered, err error) {
	dir, err := ledger.OpenDir(want.StateDir)
	if err != nil {
		return done, err
	}
	defer dir.Close()
	if err := checkParents(want.StateDir, want.StrictStateDir, log); err != nil {
		return done, err
	}
	files, err := dir.Names()
	if err != nil {
		return done, err
	}
	if want.Retry {
		aside, err := dir.NamesSetAside()
		if err != nil {
			return done, err
		}
		files = append(files, aside...)
	}
	p, err := prepare(Config{Contain: tree.Auto}, log)
	if err != nil {
		return done, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	p.listener.Hear()
	late := time.Now().Add(lockPatience)
	for _, file := range files {
		runLedger, err := locked(late, func() (*ledger.Ledger, error) { return dir.Open(file) })
		switch {
		case errors.Is(err, ledger.ErrAlive):
			log.Info("ledger left alone", "ledger", file, "err", err)
			continue
		case errors.Is(err, os.ErrNotExist): // another process has finished the run
			continue
		case err == nil:
			done.Stopped, err = p.finishWanted(want, runLedger, late)
			err = errors.Join(err, runLedger.Close())
		}
		if err != nil {
			done.Failed++
		}
		if err != nil && !errors.Is(err, errCommands) {
			log.Error("run not recovered", "err", err)
		}
		if done.Stopped != 0 {
			break
		}
	}
	return done, nil
}

// finishWanted finishes the run of a ledger, if it is wanted. It waits for locks until late. It returns the stop signal
// that arrived meanwhile, or 0.
func (p *processes) finishWanted(
	want Recovery, runLedger *ledger.Ledger, late time.Time,
) (stopped syscall.Signal, err error) {
	m, err := read(runLedger)
	switch {
	case want.Name != "" && m.run.Config.Name != want.Name:
		return 0, nil
	case errors.Is(err, journal.ErrEmpty):
		return 0, runLedger.Remove()
	case err != nil:
		return 0, err
	}
	p.log.Info("recovering run", "run", m.run.ID, "name", m.run.Config.Name)
	// A ledger that was set aside gets its old name back. So another process finds this retry if it is killed, too, and
	// no run of that name begins meanwhile.
	_, err = locked(late, func() (*ledger.Ledger, error) { return runLedger, runLedger.TakeBack() })
	if errors.Is(err, ledger.ErrAlive) {
		err = fmt.Errorf("a run named %s lives: %w", m.run.Config.Name, err)
	}
	if err != nil {
		return 0, err
	}
	return p.finishDead(m, want.Retry)
}
