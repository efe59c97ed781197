package runner

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner/machine"
	"graceful/runner/procfs"
	"graceful/runner/report"
	"graceful/runner/tree"
)

// finishDead finishes a dead run: a run whose graceful and guard have ended, so that the remaining processes are
// reparented to init or to another subreaper. The caller holds the lock of the run's ledger. left is the place where
// processes of the run may exist. finishDead also starts the cleanup commands that were not started. If retry is true,
// it runs interrupted commands a second time.
//
// stopped is the first stop signal that arrived meanwhile, or 0. The error is errCommands if the run is finished, but
// not all of its commands have succeeded. If the run was done already, only interrupted commands count.
func (sys *realSystem) finishDead(rec recordedRun, left location, retry bool) (stopped syscall.Signal, err error) {
	rec.history.RecordTakeover()
	if left == locationNone {
		rec.run.Cgroup = ""
	}
	deadSystem := *sys
	deadSystem.inherited.Blocked = rec.Begin.Blocked
	if deadSystem.report = nil; rec.history != nil {
		deadSystem.report = report.Reopen(rec.run.Config.Report)
		defer deadSystem.report.Close()
	}
	if rec.run.State == machine.Done && len(unstarted(rec.run)) == 0 && !(retry && len(interrupted(rec.run)) > 0) {
		deadSystem.newLoop(rec).complete() // writes the report, which may be missing
		return 0, deadSystem.conclude(rec.run, rec.ledger)
	}
	mark := "GRACEFUL_RUN_ID=" + rec.run.ID
	switch left {
	case locationHere:
		deadSystem.Tree, err = tree.OpenOrphaned(mark, recordedIdentities(rec.run), rec.Start)
	case locationOther: // the start time is unusable: that namespace may have another clock (time_namespaces(7))
		deadSystem.Tree, err = tree.OpenOrphaned(mark, rec.translate(), 0)
	default: // the tree is empty, and other processes may have reused the recorded pids
		deadSystem.Tree, _, err = tree.Open(tree.Auto)
	}
	if err != nil {
		return 0, fmt.Errorf("finding what run %s has left: %w", rec.run.ID, err)
	}
	rec.run.Dir = cmp.Or(string(rec.Begin.Dir), noDir)
	rec.run.Run = rec.run.WithoutBudget() // no outer run waits for this run any longer
	l := deadSystem.newLoop(rec)
	l.stopOn, l.ofDeadRun = sys.stopOn, true
	l.recover(rec, left != locationNone, retry)
	r := l.complete()
	hasFailed := slices.ContainsFunc(slices.Collect(r.Cleanup.Entries.All()), func(c *cleanup.Entry) bool {
		return c.Outcome.Failed()
	})
	if err = deadSystem.conclude(r, rec.ledger); err == nil && hasFailed {
		err = errCommands
	}
	return l.firstStop, err
}

// errCommands means that a run was finished, but that one of its commands failed, was interrupted or was not started.
var errCommands = errors.New("not every cleanup command succeeded")

// conclude removes the socket and the ledger of a run that is done. It logs interrupted cleanup commands: a killed
// process may have started them, and their ends are unknown. If a cleanup command was interrupted or not started,
// conclude does not remove the ledger, but sets it aside, so that graceful recover can run the command. It then returns
// errCommands. runLedger may be nil.
func (sys *realSystem) conclude(r Run, runLedger *ledger.Ledger) error {
	registry.Remove(r.Socket)
	for _, c := range interrupted(r) {
		log := logCommand(sys.log, *c)
		log.Warn("cleanup command interrupted", "err", "it is not run again",
			"hint", "graceful recover --retry-interrupted")
	}
	if len(interrupted(r))+len(unstarted(r)) == 0 {
		return discard(runLedger)
	}
	if runLedger == nil {
		return errCommands
	}
	if err := runLedger.SetAside(ledger.Interrupted); err != nil {
		return err
	}
	return errCommands
}

// discard removes a ledger, if there is one.
func discard(runLedger *ledger.Ledger) error {
	if runLedger == nil {
		return nil
	}
	return runLedger.Remove()
}

// interrupted lists the cleanup commands that may have been started, and whose end is unknown.
func interrupted(r Run) (commands []*cleanup.Entry) {
	return withOutcome(r, func(o cleanup.Outcome) bool { return o.Interrupted })
}

// unstarted lists the cleanup commands that were not started for lack of a directory or of a resource.
func unstarted(r Run) (commands []*cleanup.Entry) {
	return withOutcome(r, func(o cleanup.Outcome) bool { return o.Unstarted })
}

func withOutcome(r Run, is func(cleanup.Outcome) bool) (commands []*cleanup.Entry) {
	return slices.DeleteFunc(slices.Collect(r.Cleanup.Entries.All()), func(c *cleanup.Entry) bool {
		return c.When != cleanup.AtExit || !is(c.Outcome)
	})
}

// noDir replaces an unknown working directory of a dead run. It never exists, so a command without a directory of its
// own is not started.
const noDir = "/dev/null/none"

// recordedIdentities lists the target and the commands of a run whose start times are recorded. A pid alone does not
// identify a process, because the kernel may have reused the pid.
func recordedIdentities(r Run) (ids []procfs.Identity) {
	ids = append(ids, procfs.Identity{PID: r.Target.PID, Start: r.Target.Start})
	for c := range r.Cleanup.Entries.All() {
		ids = append(ids, procfs.Identity{PID: c.PID, Start: c.Start})
	}
	return slices.DeleteFunc(ids, func(id procfs.Identity) bool { return id.Start == 0 })
}

// recover updates a run whose guard and earlier graceful have ended. It compares the recorded commands with the
// existing processes, and performs the actions that follow. If the end of the target is unknown, rec.Last counts as the
// target's duration. mayLive is false if no process of the run can exist. Cleanup commands that were not started become
// pending again. If retry is true, interrupted ones do so, too.
func (l *loop) recover(rec recordedRun, mayLive, retry bool) {
	if l.run.State >= machine.Cleaning && l.run.Policy.Survivors == machine.KeepSurvivors {
		l.performAction(machine.LeaveSurvivors{})
	}
	was := l.run
	for _, id := range was.Cleanup.Running(cleanup.AtExit) {
		c := l.command(id)
		if _, again := l.run.Due(machine.Timer{Name: machine.RetryTimer, ID: id}); again && c.PID == 0 {
			continue // the start of the command failed, and is tried again
		}
		if p, ok := l.runningCommand(c); mayLive && ok {
			if was.State < machine.Cleaning {
				l.sys.Exempt(p.PID)
			}
			if c.PID == 0 {
				l.handle(machine.CommandStarted{ID: c.ID, PID: p.PID, Start: p.Start})
			}
			log := logCommand(l.log, c)
			log.Info("cleanup command still runs", "pid", p.PID)
			l.watcher.polledCommands, l.watcher.nextPoll = append(l.watcher.polledCommands, p.Identity), time.Now()
		} else {
			l.handle(machine.CommandLost{ID: c.ID})
		}
	}
	if was.State < machine.Cleaning && was.KeepsSurvivors() && mayLive {
		l.sys.OnlyGroupOf(procfs.Identity{PID: was.Target.PID, Start: was.Target.Start})
	}
	if was.State < machine.Sweeping {
		l.handle(machine.Recovered{After: rec.Last})
	} else if was.State < machine.Cleaning || was.Cleanup.Relaying || was.Cleanup.Clearing {
		for _, a := range machine.Resume(l.run.Run) {
			l.performAction(a)
		}
	}
	switch {
	case retry:
		l.handle(machine.Retried{})
	case len(unstarted(was)) > 0:
		l.handle(machine.RetriedUnstarted{})
	}
}

// runningCommand finds the process of a cleanup command that an earlier graceful has started. If the pid of the command
// is recorded, that is the process with the pid and the recorded start time. Otherwise it is the oldest member that may
// belong to the command. runningCommand returns false if there is no such process.
func (l *loop) runningCommand(c cleanup.Entry) (procfs.Process, bool) {
	l.sys.SetScanLimit(time.Time{}) // no time limit: a command that this scan misses would run twice
	members := slices.DeleteFunc(l.sys.Members(), func(p procfs.Process) bool {
		if c.PID != 0 {
			return c.Start == 0 || p.PID != c.PID || p.Start != c.Start
		}
		return l.sys.isOtherCommand(p, c.ID) || l.run.State < machine.Cleaning && !l.sys.isCommand(p, c.ID)
	})
	if len(members) == 0 {
		return procfs.Process{}, false
	}
	return slices.MinFunc(members, older), true
}
