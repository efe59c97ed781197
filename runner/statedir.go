package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"graceful/cleanup/ledger"
	"graceful/runner/journal"
	"graceful/runner/process"
)

// lockPatience is how long a lock may stay taken after its holder was killed. A child that the holder was starting has
// the ledger's descriptor until its execve(2).
const lockPatience = 500 * time.Millisecond

// locked calls open until no other process has the lock, or the time is later than late.
func locked(late time.Time, open func() (*ledger.Ledger, error)) (*ledger.Ledger, error) {
	for {
		runLedger, err := open()
		if !errors.Is(err, ledger.ErrAlive) || time.Now().After(late) {
			return runLedger, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// openLedger opens the ledger in the state directory. It returns nil if there is no state directory. If a dead run has
// the same name, it finishes that run first. stopped is a stop signal that arrived meanwhile.
func (p *processes) openLedger(config Config) (runLedger *ledger.Ledger, stopped syscall.Signal, err error) {
	if config.StateDir == "" {
		return nil, 0, nil
	}
	dir, err := ledger.MakeDir(config.StateDir)
	if err != nil {
		return nil, 0, err
	}
	defer dir.Close()
	if err := checkParents(config.StateDir, config.StrictStateDir, p.log); err != nil {
		return nil, 0, err
	}
	file := ledger.FileName(config.Name + "." + NewID())
	if config.Named {
		file = ledger.FileName(config.Name)
	}
	for {
		late := time.Now().Add(lockPatience)
		runLedger, err = locked(late, func() (*ledger.Ledger, error) { return dir.Take(file) })
		if errors.Is(err, ledger.ErrAlive) {
			return nil, 0, fmt.Errorf("a run named %s lives: %w", config.Name, err)
		}
		if err != nil {
			return nil, 0, err
		}
		m, err := read(runLedger)
		if errors.Is(err, journal.ErrEmpty) { // new, or its run was killed before it had begun
			return runLedger, 0, nil
		}
		if err != nil {
			return nil, 0, errors.Join(err, runLedger.Close())
		}
		p.log.Warn("finishing a killed run first", "run", m.run.ID)
		stopped, err := p.finishDead(m, false)
		p.listener.Restart()
		if process.SetsIgnored {
			p.listener.Hear()
		}
		if err == errCommands {
			err = nil
		}
		if err := errors.Join(err, runLedger.Close()); err != nil || stopped != 0 {
			return nil, stopped, err
		}
	}
}

// replaceable is the warning, or the error, that a parent of the state directory is unsafe.
const replaceable = "the state directory can be replaced by others"

// checkParents warns if another user can replace the state directory, which exists. With strict set, that is an error.
// By default it is none, because a Kubernetes volume is writable by all users or by a group.
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

// UnsafeParents describes the parents of the state directory at path that let another user replace it, and what to do
// about them. why is empty if there are none. The error is fs.ErrNotExist if an element of the path does not exist; why
// then describes the elements before it.
func UnsafeParents(path string) (why, hint string, err error) {
	unsafe, err := ledger.UnsafeParents(path)
	var reasons, hints []string
	for _, parent := range unsafe {
		reasons, hints = append(reasons, parent.Error()), append(hints, parent.Hint())
	}
	return strings.Join(reasons, "; "), strings.Join(hints, ", "), err
}
