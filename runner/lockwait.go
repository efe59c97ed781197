package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
	"graceful/cleanup/ledger"
	"graceful/forward"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// lockWaiter is the state of a run that waits for the lock of its ledger. The lock belongs to another run of the same
// name, or to a process that finishes that run.
type lockWaiter struct {
	*realSystem
	config Config
	dir    *ledger.Dir
	file   string // name of the ledger in dir

	keptSignals []syscall.Signal // signals to forward to the target after the wait
	lastReason  string           // the last reason for waiting that was logged
	lastCheck   time.Time        // when checkHolders last looked for the processes with the lock
}

// take opens the ledger and takes its lock. While the other run is alive, take waits up to config.WaitForName, and at
// least lockPatience. While another process finishes that run, take waits without a limit. If no process can finish
// that run, take returns an error (see checkHolders). If a stop signal arrives meanwhile, take returns it in stopped.
// The end of the parent counts as SIGTERM (--die-with-parent).
func (w *lockWaiter) take() (runLedger *ledger.Ledger, stopped syscall.Signal, err error) {
	for began := time.Now(); stopped == 0; {
		runLedger, err = w.dir.Take(w.file)
		if !errors.Is(err, ledger.ErrAlive) {
			return runLedger, 0, err
		}
		pause, now := lockPoll, time.Now()
		if waited := now.Sub(began); waited > lockPatience {
			if err := w.checkWait(waited); err != nil {
				return nil, 0, err
			}
			pause = max(pause, 9*time.Since(now)) // the check takes at most a tenth of the time
		}
		stopped = w.waitForStop(pause)
	}
	return nil, stopped, nil
}

// checkWait returns an error if the other run is alive and the wait is over, or if a killed run holds the lock and no
// process can finish that run. waited is the duration of the wait so far. If there is no error, checkWait logs the
// wait, once for each run and reason. It logs a warning if the other run was killed.
func (w *lockWaiter) checkWait(waited time.Duration) error {
	rec, err := readWithoutLock(w.dir, w.file)
	finishing := err == nil && rec.frontEnded()
	switch {
	case finishing:
		if err := w.checkHolders(rec); err != nil {
			return err
		}
	case w.config.WaitForName == 0:
		return fmt.Errorf("a run named %s lives: %w (--wait-for-name TIME waits for its end)",
			w.config.Name, ledger.ErrAlive)
	case waited >= w.config.WaitForName:
		return fmt.Errorf("a run named %s lives: waited %v for its end", w.config.Name, w.config.WaitForName)
	}
	if reason := fmt.Sprint(rec.run.ID, finishing); reason != w.lastReason {
		w.lastReason = reason
		level, message := slog.LevelInfo, "waiting for the end of a run"
		if finishing {
			level, message = slog.LevelWarn, "waiting until a killed run is finished"
		}
		w.log.Log(context.Background(), level, message, "name", w.config.Name, "run", rec.run.ID)
	}
	return nil
}

// checkHolders returns an error if the lock belongs to the killed run rec and no process can finish that run. It checks
// at most once a second.
func (w *lockWaiter) checkHolders(rec recordedRun) error {
	if time.Since(w.lastCheck) < time.Second {
		return nil
	}
	w.lastCheck = time.Now()
	if hung := rec.holders(w.dir, w.file); len(hung) > 0 {
		return fmt.Errorf("the run named %s was killed, and its process %d (%s) has the lock (%s)",
			w.config.Name, hung[0].PID, hung[0].Name, endHung)
	}
	return nil
}

// endHung is the advice for the case that a hanging process of a dead run holds the lock.
const endHung = "its start hangs, perhaps in a file system that does not answer: end it first"

// lockPoll is the interval at which locked tries again, and the minimum interval for take.
const lockPoll = 10 * time.Millisecond

// waitForStop waits for the time pause, and stores the signals for the target that arrive meanwhile. When a stop signal
// arrives, waitForStop returns that signal at once. When the parent has ended, it returns SIGTERM. Otherwise it returns
// 0.
func (w *lockWaiter) waitForStop(pause time.Duration) (stopped syscall.Signal) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return 0
		case <-w.parentGone:
			w.log.Warn("starting nothing", "err", parentEnded)
			return unix.SIGTERM
		case sig := <-w.listener.Signals:
			w.log.Info("received signal", "signal", forward.Name(sig), "state", machine.Starting.String())
			switch meaning := forward.MeaningIn(sig, w.config.StopOn); {
			case w.config.Rewritten(int(sig)) == 0: // the signal has no effect
			case meaning == forward.Stop:
				return sig
			case meaning == forward.Suspend:
				w.suspendSelf(sig)
			case sig == unix.SIGCONT:
				w.terminal.Resumed()
			default:
				w.keptSignals = append(w.keptSignals, sig)
			}
		}
	}
}

// giveBack returns the stored signals to the listener, which delivers them to the run.
func (w *lockWaiter) giveBack() {
	w.terminal.Resumed()
	w.listener.Return(w.keptSignals)
}

// readWithoutLock returns the run that is recorded in a ledger, although another process may have the lock.
func readWithoutLock(dir *ledger.Dir, file string) (recordedRun, error) {
	runLedger, err := dir.Peek(file)
	if err != nil {
		return recordedRun{}, err
	}
	rec, err := read(runLedger)
	return rec, errors.Join(err, runLedger.Close())
}

// holders returns the processes that hold the lock of a dead run's ledger, if all of them are recorded processes of
// that run. The start of such a process hangs in a file system. Until its execve(2) the process has the ledger's
// descriptor open. holders returns none if a holder may be another process, or if the run began before a reboot or in
// another PID namespace. It sends SIGCONT to each suspended holder, because the holder may be a guard without a
// graceful.
func (rec recordedRun) holders(dir *ledger.Dir, file string) (hung []procfs.Process) {
	runLedger, err := dir.Peek(file)
	if err != nil {
		return nil
	}
	defer runLedger.Close()
	status, err := eintr.Fstat(runLedger.FD())
	if err != nil || rec.Begin.Boot != procfs.Boot() {
		return nil
	}
	proc, _ := procfs.Open() // nil shows no processes
	hung, known := proc.Holders(file, status), recordedIdentities(rec.run)
	for _, p := range hung {
		if p.Suspended {
			_ = unix.Kill(p.PID, unix.SIGCONT)
		}
	}
	if slices.ContainsFunc(hung, func(p procfs.Process) bool { return !slices.Contains(known, p.Identity) }) {
		return nil
	}
	return hung
}
