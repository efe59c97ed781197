package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"graceful/cleanup/ledger"
	"graceful/runner/journal"
	"graceful/runner/process"
)

// lockPatience is the maximum time for which a lock may stay taken after its holder was killed. A child that the
// holder was starting has the ledger's descriptor open until the child's execve(2).
const lockPatience = 500 * time.Millisecond

// locked calls open repeatedly until it does not fail with ErrAlive, or until the time late. It returns the last
// result.
func locked(late time.Time, open func() (*ledger.Ledger, error)) (*ledger.Ledger, error) {
	for {
		runLedger, err := open()
		if !errors.Is(err, ledger.ErrAlive) || time.Now().After(late) {
			return runLedger, err
		}
		time.Sleep(lockPoll)
	}
}

// openLedger opens the ledger in the state directory and takes its lock, or returns nil if there is no state directory.
// First it finishes the dead runs of the same name. If a stop signal arrives meanwhile, openLedger opens no ledger and
// returns that signal in stopped. The end of the parent counts as SIGTERM (--die-with-parent).
func (sys *realSystem) openLedger(config Config) (runLedger *ledger.Ledger, stopped syscall.Signal, err error) {
	if config.StateDir == "" {
		return nil, 0, nil
	}
	dir, err := ledger.MakeDir(config.StateDir)
	if err != nil {
		return nil, 0, err
	}
	defer dir.Close()
	if err := checkParents(config.StateDir, config.StrictStateDir, sys.log); err != nil {
		return nil, 0, err
	}
	file := ledger.FileName(config.Name + unnamed(NewID()))
	if config.Named {
		file = ledger.FileName(config.Name)
	}
	if stopped, err := sys.finishNamesakes(dir, config.Name, file); err != nil || stopped != 0 {
		return nil, stopped, err
	}
	w := lockWaiter{realSystem: sys, config: config, dir: dir, file: file}
	defer w.giveBack()
	for {
		runLedger, stopped, err = w.take()
		if err != nil || stopped != 0 {
			return nil, stopped, err
		}
		rec, err := read(runLedger)
		if errors.Is(err, journal.ErrEmpty) { // the ledger is new, or the earlier run was killed before it began
			return runLedger, 0, nil
		}
		if err == nil {
			stopped, err = sys.finishFirst(rec)
		}
		if err := errors.Join(err, runLedger.Close()); err != nil || stopped != 0 {
			return nil, stopped, err
		}
	}
}

// unnamed returns the suffix of a ledger's name for a run that the user has not named.
func unnamed(id string) string { return "." + id }

// finishNamesakes finishes the dead runs of a name, whether the user has chosen that name or not. It ignores omit, the
// ledger of the new run. It logs a warning for each run that it cannot finish. If a stop signal arrives meanwhile, it
// begins no further run, and returns that signal in stopped.
func (sys *realSystem) finishNamesakes(dir *ledger.Dir, name, omit string) (stopped syscall.Signal, err error) {
	files, err := dir.Names()
	if err != nil {
		return 0, err
	}
	suffix := len(unnamed(NewID()))
	late := time.Now().Add(lockPatience)
	for _, file := range files {
		if file == omit || !ledger.IsNameOf(file, name, suffix) {
			continue
		}
		stopped, err := sys.finishNamesake(dir, file, name, late)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // otherwise another process has finished the run
			sys.log.Warn("killed run not finished", "ledger", file, "err", err)
		}
		if stopped != 0 {
			return stopped, nil
		}
	}
	return 0, nil
}

// finishNamesake finishes the run of a ledger if the run is dead and has the given name. If the run was killed,
// finishNamesake waits for the lock until the time late. It does not wait for a live run. It removes a ledger without a
// run. stopped is the first stop signal that arrived meanwhile, or 0.
func (sys *realSystem) finishNamesake(
	dir *ledger.Dir, file, name string, late time.Time,
) (stopped syscall.Signal, err error) {
	runLedger, err := locked(late, func() (*ledger.Ledger, error) {
		runLedger, err := dir.Open(file)
		if errors.Is(err, ledger.ErrAlive) {
			if rec, err := readWithoutLock(dir, file); err != nil || !rec.frontEnded() {
				return nil, nil // the run is alive
			}
		}
		return runLedger, err
	})
	if runLedger == nil {
		if errors.Is(err, ledger.ErrAlive) { // another process is finishing the run
			err = nil
		}
		return 0, err
	}
	rec, err := read(runLedger)
	switch {
	case errors.Is(err, journal.ErrEmpty):
		err = runLedger.Remove()
	case err == nil && rec.run.Config.Name == name:
		stopped, err = sys.finishFirst(rec)
	}
	return stopped, errors.Join(err, runLedger.Close())
}

// finishFirst finishes a dead run before this process begins its own run. stopped is the first stop signal that arrived
// meanwhile, or 0. A failed command of the dead run is no error.
func (sys *realSystem) finishFirst(rec recordedRun) (stopped syscall.Signal, err error) {
	left, err := rec.locate(false)
	if err != nil {
		return 0, err
	}
	sys.log.Warn("finishing a killed run first", "run", rec.run.ID)
	stopped, err = sys.finishDead(rec, left, false)
	sys.listener.Restart()
	if process.SetsIgnored {
		sys.listener.CatchIgnored()
	}
	if err == errCommands {
		err = nil
	}
	return stopped, err
}

// replaceable is the text of the warning, or of the error, about an unsafe parent of the state directory.
const replaceable = "the state directory can be replaced by others"

// checkParents logs a warning if another user can replace the existing state directory. With strict it returns an error
// instead. By default it only warns, because all users or a group may write to a Kubernetes volume.
func checkParents(path string, strict bool, log *slog.Logger) error {
	why, hint, err := UnsafeParents(path)
	if err != nil || why == "" {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	why = path + ": " + why
	if strict {
		return fmt.Errorf("%s: %s (%s)", replaceable, why, hint)
	}
	log.Warn(replaceable, "err", why, "hint", hint+", or --strict-state-dir to refuse")
	return nil
}

// UnsafeParents describes the parents of the state directory at path through which another user can replace that
// directory, and returns a hint to make them safe. why is empty if there are none. The error is fs.ErrNotExist if an
// element of the path does not exist. In that case why describes the elements before it.
func UnsafeParents(path string) (why, hint string, err error) {
	unsafe, err := ledger.UnsafeParents(path)
	var reasons, hints []string
	for _, parent := range unsafe {
		reasons, hints = append(reasons, parent.Error()), append(hints, parent.Hint())
	}
	return strings.Join(reasons, "; "), strings.Join(hints, ", "), err
}
