package runner

import (
	"errors"
	"fmt"
	"os"
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

// A dead run is one whose processes of graceful have all ended. Its other processes have been reparented to init or to
// another subreaper.

// finishDead finishes a dead run. The caller holds the lock of its ledger. retry runs interrupted commands again.
// stopped is the stop signal that arrived meanwhile, or 0.
func (p *processes) finishDead(m remembered, retry bool) (stopped syscall.Signal, err error) {
	m.history.TakeOver()
	sameBoot := m.Begin.Boot != "" && m.Begin.Boot == procfs.Boot()
	if !sameBoot {
		m.run.Cgroup = ""
	}
	q := *p
	q.inherit.Blocked = m.Begin.Blocked
	if q.report = nil; m.history != nil {
		q.report = report.Reopen(m.run.Config.Report)
		defer q.report.Close()
	}
	if m.run.State == machine.Done && !(retry && len(interrupted(m.run)) > 0) {
		q.newLoop(m).complete() // the report may not be written
		return 0, q.conclude(m.run, m.ledger)
	}
	if sameBoot {
		q.Tree, err = tree.OpenOrphaned("GRACEFUL_RUN_ID="+m.run.ID, recordedIdentities(m.run), m.Start)
	} else { // after a reboot the tree is empty: other processes have the pids
		q.Tree, _, err = tree.Open(tree.Auto)
	}
	if err != nil {
		return 0, fmt.Errorf("finding what run %s has left: %w", m.run.ID, err)
	}
	leave, err := q.enter(string(m.Begin.Dir)) // commands may contain relative paths
	if err != nil {
		return 0, fmt.Errorf("run %s: its working directory: %w", m.run.ID, err)
	}
	defer leave()
	l := q.newLoop(m)
	l.recover(m, sameBoot, retry)
	r := l.complete()
	failed := func(c *cleanup.Entry) bool { return c.Outcome.Failed() }
	if err = q.conclude(r, m.ledger); err == nil && slices.ContainsFunc(r.Cleanup.Entries, failed) {
		err = errCommands
	}
	return l.stopHeard, err
}

// errCommands means that a run was finished, and that a cleanup command failed or was interrupted. The log names it.
var errCommands = errors.New("not every cleanup command succeeded")

// conclude removes the socket and the ledger of a dead run that is done. It logs which commands were interrupted,
// because the process that should have done so may have been killed. The ledger of such a run is set aside.
func (p *processes) conclude(r Run, runLedger *ledger.Ledger) error {
	registry.Remove(r.Socket)
	commands := interrupted(r)
	for _, c := range commands {
		log := logCommand(p.log, *c)
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

// enter changes the working directory and returns a function that changes it back. If dir has been removed, enter makes
// another directory and removes it: commands find no files there, either.
func (p *processes) enter(dir string) (leave func(), err error) {
	here, err := os.Open(".")
	if err != nil {
		return nil, err
	}
	if err = os.Chdir(dir); errors.Is(err, os.ErrNotExist) {
		p.log.Warn("the run's working directory is gone", "err", err)
		if dir, err = os.MkdirTemp("", "graceful-"); err == nil {
			err = errors.Join(os.Chdir(dir), os.Remove(dir))
		}
	}
	if err != nil {
		return nil, errors.Join(err, here.Close())
	}
	return func() {
		_ = here.Chdir()
		_ = here.Close()
	}, nil
}

// recordedIdentities lists the processes that a run has recorded with their start times. A pid alone may have been
// reused.
func recordedIdentities(r Run) (ids []procfs.Identity) {
	ids = append(ids, procfs.Identity{PID: r.Target.PID, Start: r.Target.Start})
	for _, c := range r.Cleanup.Entries {
		ids = append(ids, procfs.Identity{PID: c.PID, Start: c.Start})
	}
	return slices.DeleteFunc(ids, func(id procfs.Identity) bool { return id.Start == 0 })
}

// recover reconciles a dead run with the processes that exist. sameBoot is false if none of its processes can exist.
func (l *loop) recover(m remembered, sameBoot, retry bool) {
	if l.run.State >= machine.Cleaning && l.run.Keeps() && !l.run.Stop.Escalated {
		l.perform(machine.LeaveSurvivors{})
	}
	was := l.run
	for _, id := range was.Cleanup.Running(cleanup.AtExit) {
		c := l.command(id)
		if p, ok := l.runningCommand(c); sameBoot && ok {
			if was.State < machine.Cleaning {
				l.sys.Exempt(p.PID)
			}
			if c.PID == 0 {
				l.handle(machine.CommandStarted{ID: c.ID, PID: p.PID, Start: p.Start})
			}
			l.waits.commands, l.waits.at = append(l.waits.commands, p.Identity), time.Now()
		} else {
			l.handle(machine.CommandLost{ID: c.ID})
		}
	}
	if was.State < machine.Sweeping {
		l.handle(machine.Recovered{After: m.Last})
	} else if was.State < machine.Cleaning || was.Cleanup.Relaying || was.Cleanup.Clearing {
		for _, a := range machine.Resume(l.run.Run) {
			l.perform(a)
		}
	}
	if retry {
		l.handle(machine.Retried{})
	}
}

// runningCommand finds the process of a cleanup command that another process of graceful started.
func (l *loop) runningCommand(c cleanup.Entry) (procfs.Process, bool) {
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
