package runner

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"time"

	"graceful/cleanup/ledger"
	"graceful/forward"
	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/procfs"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// A run with a guard has two processes of graceful: the one that the user started, which leads the run, and the guard,
// which is forked from it and is the parent of the target and of the commands. Both are subreapers.
//
// If graceful is killed, the guard starts a new graceful, which resumes the run from the ledger. If the guard is
// killed, the tree is reparented to graceful, which goes on without.

// startGuard starts the guard. Without a ledger it makes one in memory, which a new graceful inherits. An error means
// that nothing was started.
func (p *processes) startGuard(r Run, runLedger *ledger.Ledger) (_ *ledger.Ledger, err error) {
	if err = tree.AdoptOrphans(); err != nil {
		return nil, err
	}
	made := runLedger == nil
	if made {
		if runLedger, err = ledger.InMemory(); err != nil {
			return nil, err
		}
		if err = begin(runLedger, r, p); err != nil {
			return nil, errors.Join(err, runLedger.Close())
		}
	}
	if p.guard, err = process.StartGuard(p.succession(r, runLedger)); err != nil {
		if made {
			err = errors.Join(err, runLedger.Close())
		}
		return nil, err
	}
	p.SetRoot(p.guard.PID())
	if p.terminal != nil {
		p.guard.Watch()
	}
	return runLedger, nil
}

// succession returns what the guard needs.
func (p *processes) succession(r Run, runLedger *ledger.Ledger) process.Succession {
	terminal, pty := p.pty.Inheritance()
	destination, report := p.report.Inheritance()
	devNull := int(p.devNull.Fd())
	keep := slices.Concat(pty, report, []int{runLedger.FD(), devNull})
	if p.socket >= 0 {
		keep = append(keep, p.socket)
	}
	return process.Succession{
		Keep:   keep,
		Passes: forward.Audible(),
		Successor: func(link, memory int) process.Spec {
			return process.Spec{
				Path: process.SelfExe,
				Argv: []string{
					SuccessorName, r.Config.Name, strconv.Itoa(runLedger.FD()), strconv.Itoa(link), strconv.Itoa(memory),
					runLedger.Path(), strconv.Itoa(p.socket), strconv.Itoa(devNull), terminal, destination,
				},
				Env:     process.RuntimeEnv(os.Environ()),
				Keep:    append(slices.Clone(keep), link, memory),
				Ignored: p.ignoredByParents(),
			}
		},
	}
}

// endGuard kills the guard when the run is done, and reaps what it has left as zombies.
func (p *processes) endGuard() {
	p.closeGuard()
	for {
		pid, _, _ := process.Peek()
		if pid == 0 {
			return
		}
		process.Reap(pid)
	}
}

// closeGuard kills the guard.
func (p *processes) closeGuard() {
	if p.guard != nil {
		p.guard.Close()
		p.guard = nil
	}
}

// started returns the pids of the processes that the guard has started and not reaped, by the ids of their commands; 0
// is the target.
func (p *processes) started() map[int]int { return p.guard.Started() }

// lostGuard reports whether the guard has ended since the last call. orphaned tells that the tree is not reparented to
// this process, because this process is itself a child of the guard.
func (p *processes) lostGuard() (lost, orphaned bool) {
	if p.guard == nil || !p.guard.Ended() {
		return false, false
	}
	orphaned = !p.guard.IsChild()
	p.closeGuard()
	p.SetRoot(unix.Getpid())
	return true, orphaned
}

// goOnWithoutGuard continues the run after the guard was killed.
func (l *loop) goOnWithoutGuard(orphaned bool) {
	if !orphaned {
		l.log.Warn("the guard was killed; going on without one",
			"hint", "if graceful itself is killed now, nothing is cleaned up")
		return
	}
	l.log.Warn("the guard was killed, too; ending what is left of the run")
	if err := l.sys.findOrphaned(l.run); err != nil {
		l.log.Error("finding what the run has left", "err", err)
	}
	l.recover(remembered{Replayed: journal.Replayed{Last: time.Since(l.began)}}, true, false)
}

// findOrphaned looks for the tree as recover does.
func (p *processes) findOrphaned(r Run) error {
	t, err := tree.OpenOrphaned("GRACEFUL_RUN_ID="+r.ID, recordedIdentities(r), p.since)
	if err == nil {
		p.Tree = t
		p.Confine(r.Cgroup)
	}
	return err
}

// reapOwn reaps the children of this process that are not the guard, and were not the guard's: those that it had
// before it became graceful, and as PID 1 others.
func (p *processes) reapOwn() {
	for {
		pid, _, _ := process.Peek()
		if pid == 0 || p.guard.Ended() || p.guard.WasParentOf(pid) {
			return
		}
		process.Reap(pid)
	}
}

// peek looks for a process that has ended, and that the run has started or inherited.
func (p *processes) peek() (int, machine.Ending, bool) {
	if p.guard == nil {
		return process.Peek()
	}
	p.reapOwn()
	if n := p.guard.Orphans(); n > 0 {
		p.log.Info("the guard reaped orphans", "count", n)
	}
	return p.guard.Peek()
}

func (p *processes) reap(pid int) {
	if p.guard == nil {
		process.Reap(pid)
	} else {
		p.guard.Reap(pid)
	}
	p.Reaped(pid)
}

func (p *processes) usage(pid int) *machine.Usage {
	if p.guard != nil {
		return p.guard.UsageOf(pid)
	}
	return process.UsageOf(pid)
}

// start starts a process that ignores the signals of s.Ignored, for the command with an id; 0 is the target.
func (p *processes) start(s process.Spec, id int) (pid int, err error) {
	if p.guard != nil {
		if pid, err = p.guard.Start(s, id); !errors.Is(err, process.ErrGuardEnded) {
			return pid, err
		}
		if !p.guard.IsChild() { // the loop finds out
			return 0, unix.EAGAIN
		}
		p.closeGuard()
		p.SetRoot(unix.Getpid())
		p.log.Warn("the guard was killed; going on without one",
			"hint", "if graceful itself is killed now, nothing is cleaned up")
	}
	if process.SetsIgnored {
		return s.Start()
	}
	p.listener.Ignoring(func() { pid, err = s.Start() })
	return pid, err
}

// KillChildren kills the children of the root of the tree, without a look at each.
func (p *processes) KillChildren() {
	if p.guardKills() {
		p.guard.KillChildren()
		return
	}
	p.Tree.KillChildren()
}

// guardKills reports whether the guard can kill its children: it does not know which of them are kept.
func (p *processes) guardKills() bool {
	return p.guard != nil && p.Level() == tree.Subreaper && !p.Keeps()
}

// Empty reports whether no member is left. The children of a guard that has just ended are not where Empty looks.
func (p *processes) Empty(childless bool) bool {
	return p.Tree.Empty(childless) && (p.guard == nil || !p.guard.Ended())
}

// Kill sends SIGKILL to every member. The guard kills its children first: one that forks and ends lives no longer than
// reading it takes.
func (p *processes) Kill() (found, denied []procfs.Process) {
	if p.guardKills() {
		p.guard.KillChildren()
	}
	return p.Tree.Kill()
}
