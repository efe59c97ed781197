package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
	"time"

	"graceful/cleanup/ledger"
	"graceful/runner/journal"
	"graceful/runner/tree"
)

// Recovery contains the options of Recover.
type Recovery struct {
	StateDir         string
	StrictStateDir   bool   // it is an error if another user can replace StateDir
	Name             string // name of the runs to finish; "": all runs
	RetryInterrupted bool   // run interrupted commands a second time

	// FromOtherMachines means that Recover also finishes runs whose processes may exist where this process cannot see
	// them, for example on another machine. The user asserts that the processes of these runs are dead.
	FromOtherMachines bool
}

// Recovered contains the result of Recover.
type Recovered struct {
	FailedRuns int            // runs that could not be finished, or in which not every command has succeeded
	StopSignal syscall.Signal // stop signal after which Recover began no further run; 0: none
}

// Recover finishes the dead runs in a state directory. Like Do, it controls signals, children and threads of the
// process. An error, such as ErrSetup, means that no run was finished.
func Recover(options Recovery, log *slog.Logger) (done Recovered, err error) {
	if err := startPoller(); err != nil {
		return done, fmt.Errorf("%w: %w%s", ErrSetup, err, hintAtLimit(err))
	}
	dir, err := ledger.OpenDir(options.StateDir)
	if errors.Is(err, fs.ErrNotExist) { // no run has begun yet
		log.Info("nothing to recover", "err", err)
		return done, nil
	}
	if err != nil {
		return done, err
	}
	defer dir.Close()
	if err := checkParents(options.StateDir, options.StrictStateDir, log); err != nil {
		return done, err
	}
	files, err := dir.Names()
	if err != nil {
		return done, err
	}
	aside, err := dir.NamesSetAside()
	if err != nil {
		return done, err
	}
	files = append(files, aside...)
	sys, err := prepare(Config{Contain: tree.Auto}, log)
	if err != nil {
		return done, fmt.Errorf("%w: %w%s", ErrSetup, err, hintAtLimit(err))
	}
	sys.listener.CatchIgnored()
	late := time.Now().Add(lockPatience)
	for _, file := range files {
		runLedger, err := locked(late, func() (*ledger.Ledger, error) { return dir.Open(file) })
		switch {
		case errors.Is(err, ledger.ErrAlive):
			if leaveAlone(dir, file, options.Name, log) {
				done.FailedRuns++
			}
			continue
		case errors.Is(err, os.ErrNotExist): // another process has finished the run
			continue
		case err == nil:
			done.StopSignal, err = sys.finishWanted(options, runLedger, late)
			err = errors.Join(err, runLedger.Close())
		}
		if err != nil {
			done.FailedRuns++
		}
		if err != nil && !errors.Is(err, errCommands) {
			log.Error("run not recovered", "err", err)
		}
		if done.StopSignal != 0 {
			break
		}
	}
	return done, nil
}

// leaveAlone logs the reason why Recover skips a locked ledger. name is Recovery.Name. failed means that the run was
// killed, and that a hanging process has the lock, so that no process can finish the run.
func leaveAlone(dir *ledger.Dir, file, name string, log *slog.Logger) (failed bool) {
	rec, err := readWithoutLock(dir, file)
	if err == nil && (name == "" || name == rec.run.Config.Name) && rec.frontEnded() {
		if hung := rec.holders(dir, file); len(hung) > 0 {
			log.Warn("run not recovered", "run", rec.run.ID, "name", rec.run.Config.Name, "pid", hung[0].PID,
				"process", hung[0].Name, "err", "this process of it has the lock", "hint", endHung)
			return true
		}
	}
	log.Info("ledger left alone", "ledger", file, "err", ledger.ErrAlive)
	return false
}

// finishWanted finishes the run of a ledger if the options select that run. Unless the options contain a name, it also
// removes a ledger without a run. For a ledger that was set aside, it waits for the lock until the time late. The
// results are those of finishDead.
func (sys *realSystem) finishWanted(
	options Recovery, runLedger *ledger.Ledger, late time.Time,
) (stopped syscall.Signal, err error) {
	rec, err := read(runLedger)
	switch {
	case runLedger.IsSetAside() && !options.RetryInterrupted && (err != nil || len(unstarted(rec.run)) == 0):
		return 0, nil
	case options.Name != "" && rec.run.Config.Name != options.Name:
		return 0, nil
	case errors.Is(err, journal.ErrEmpty):
		return 0, runLedger.Remove()
	case err != nil:
		return 0, err
	}
	left, err := rec.locate(options.FromOtherMachines)
	if err != nil {
		return 0, err
	}
	sys.log.Info("recovering run", "run", rec.run.ID, "name", rec.run.Config.Name)
	// A ledger that was set aside gets its old name back. So another process finds the retry if this process is
	// killed, and no run of that name begins meanwhile.
	_, err = locked(late, func() (*ledger.Ledger, error) { return runLedger, runLedger.TakeBack() })
	if errors.Is(err, ledger.ErrAlive) {
		err = fmt.Errorf("a run named %s lives: %w", rec.run.Config.Name, err)
	}
	if err != nil {
		return 0, err
	}
	return sys.finishDead(rec, left, options.RetryInterrupted)
}
