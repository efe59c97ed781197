package runner

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/forward"
	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/procfs"
	"graceful/runner/tree"
)

// A run with a guard has two processes of graceful. The user starts the first one, which performs the run. It forks the
// guard, which is the parent of the target and of the commands. Both are subreapers.
//
// If graceful is killed, the guard starts a new graceful, which resumes the run from the ledger. If the guard is
// killed, the tree is reparented to graceful, which continues without a guard.

// startGuard starts the guard. If there is no ledger, startGuard makes one in memory, which a new graceful inherits. An
// error means that nothing was started.
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

// succession returns the data from which the guard starts a new graceful.
func (p *processes) succession(r Run, runLedger *ledger.Ledger) process.Succession {
	terminal, pty := p.pty.Inheritance()
	destination, report := p.report.Inheritance()
	devNull := int(p.devNull.Fd())
	keep := slices.Concat(pty, report, []int{runLedger.FD(), devNull, procfs.Dir(), p.socket})
	isNone := func(fd int) bool { return fd < 0 }
	keep = slices.DeleteFunc(keep, isNone)
	return process.Succession{
		Keep:   slices.DeleteFunc(append(slices.Clone(keep), p.socketLock), isNone),
		Leaves: r.Dir != "",
		Passes: forward.Audible(),
		Successor: func(link, memory int) process.Spec {
			return process.Spec{
				Program: process.SelfExe,
				Argv: []string{
					SuccessorName, r.Config.Name, strconv.Itoa(runLedger.FD()), strconv.Itoa(link), strconv.Itoa(memory),
					runLedger.Path(), strconv.Itoa(p.socket), strconv.Itoa(devNull), strconv.Itoa(procfs.Dir()),
					terminal, destination,
				},
				Env:     process.RuntimeEnv(os.Environ()),
				Keep:    append(slices.Clone(keep), link, memory),
				Ignored: p.ignoredByParents(),
			}
		},
	}
}

// endGuard kills the guard when the run is done, and reaps the zombies that are reparented to this process.
func (p *processes) endGuard() {
	p.closeGuard()
	for {
		pid, _, _ := p.children.Peek()
		if pid == 0 {
			return
		}
		p.children.Reap(pid)
	}
}

// closeGuard kills the guard. From then on this process itself starts processes.
func (p *processes) closeGuard() {
	if p.guard != nil {
		p.guard.Close()
		p.guard = nil
	}
	if p.raised {
		p.priority.Restore()
		p.raised = false
	}
}

// started returns the processes that the guard has started and not reaped. It maps the ids of their commands to pids.
// The id of the target is 0.
func (p *processes) started() map[int]int {
	if p.guard == nil {
		return p.startedByGuard
	}
	return p.guard.Started()
}

// discarded returns the discarded outputs of a command that the guard has started.
func (p *processes) discarded(id int) (outputs cleanup.Outputs) {
	outputs.Stdout, outputs.Stderr = p.guard.Replaced(id)
	return outputs
}

// lostGuard reports whether the guard has ended since the last call. orphaned means that the tree is not reparented to
// this process, because this process is a child of the guard.
func (p *processes) lostGuard() (lost, orphaned bool) {
	if p.guard == nil || !p.guard.Ended() {
		return false, false
	}
	orphaned = !p.guard.IsChild()
	p.startedByGuard = p.guard.Started()
	p.closeGuard()
	p.SetRoot(unix.Getpid())
	return true, orphaned
}

func (p *processes) isGuardChild() bool { return p.guard == nil || p.guard.IsChild() }

// goOnWithoutGuard makes the run continue without a guard after the guard has ended.
func (l *loop) goOnWithoutGuard(orphaned bool) {
	if !orphaned {
		l.log.Warn("the guard was killed; continuing without a guard",
			"hint", "if graceful itself is killed now, nothing is cleaned up")
		return
	}
	l.log.Warn("the guard was killed, too; ending the rest of the run")
	if err := l.sys.findOrphaned(l.run); err != nil {
		l.log.Error("finding what the run has left", "err", err)
	}
	started := l.sys.started()
	for _, id := range l.run.Cleanup.Active {
		if c := l.command(id); c.PID == 0 && started[id] == 0 {
			l.handle(machine.CommandFailed{ID: id, Err: "the guard has ended", Transient: true})
		}
	}
	l.recover(remembered{Replayed: journal.Replayed{Last: time.Since(l.began)}}, true, false)
}

// findOrphaned replaces p.Tree by a tree of the orphaned members of a run. It finds these members as graceful recover
// does.
func (p *processes) findOrphaned(r Run) error {
	t, err := tree.OpenOrphaned("GRACEFUL_RUN_ID="+r.ID, recordedIdentities(r), p.since)
	if err == nil {
		p.Tree = t
		p.Confine(r.Cgroup)
	}
	return err
}

// reapOwn reaps children of this process that the guard did not start. Some are children from before the execve(2) of
// graceful. If graceful is PID 1, orphans are children as well.
func (p *processes) reapOwn() {
	for {
		pid, _, _ := p.children.Peek()
		if pid == 0 || p.guard.Ended() || p.guard.WasParentOf(pid) {
			return
		}
		p.children.Reap(pid)
		p.Reaped(pid)
	}
}

// parent starts processes and is their parent. It is this process or the guard.
type parent interface {
	Start(s process.Spec, id int) (pid int, err error)
	StartOf(pid int) (dirGone bool, err error)
	Peek() (pid int, ending machine.Ending, childless bool)
	Reap(pid int)
	UsageOf(pid int) *machine.Usage
	SuspendedBy(pid int) syscall.Signal
}

func (p *processes) parent() parent {
	if p.guard != nil {
		return p.guard
	}
	return p.children
}

// peek returns a process of the run that has ended, or pid 0. It also reaps children that do not belong to the run.
func (p *processes) peek() (int, machine.Ending, bool) {
	if p.guard != nil {
		p.reapOwn()
		if n := p.guard.Orphans(); n > 0 {
			p.log.Info("the guard reaped orphans", "count", n)
			if n >= process.ManyEnds {
				p.raisePriority()
			}
		}
	}
	return p.parent().Peek()
}

func (p *processes) reap(pid int) {
	p.parent().Reap(pid)
	p.Reaped(pid)
}

// reapOrphans reaps the orphans that have ended. A guard reaps them itself.
func (p *processes) reapOrphans(isOrphan func(pid int) bool, reaped func(pid int, ending machine.Ending)) {
	if p.guard != nil {
		return
	}
	for _, pid := range p.Adopted() {
		if !isOrphan(pid) {
			continue
		}
		if ending, ended := p.children.ReapOrphan(pid); ended {
			p.Reaped(pid)
			reaped(pid, ending)
		}
	}
}

func (p *processes) usage(pid int) *machine.Usage { return p.parent().UsageOf(pid) }

// startOf returns the result of the start of an ended process.
func (p *processes) startOf(pid int) (dirGone bool, err error) { return p.parent().StartOf(pid) }

// start starts the process of a command, or of the target if id is 0. The process ignores the signals of s.Ignored.
func (p *processes) start(s process.Spec, id int) (pid int, err error) {
	if p.guard != nil {
		if pid, err = p.guard.Start(s, id); !errors.Is(err, process.ErrGuardEnded) {
			return pid, err
		}
		if !p.guard.IsChild() { // the loop will find out that the guard has ended
			return 0, unix.EAGAIN
		}
		p.closeGuard()
		p.SetRoot(unix.Getpid())
		p.log.Warn("the guard was killed; continuing without a guard",
			"hint", "if graceful itself is killed now, nothing is cleaned up")
	}
	if process.SetsIgnored {
		return p.children.Start(s, id)
	}
	p.listener.Ignoring(func() { pid, err = p.children.Start(s, id) })
	return pid, err
}

// KillChildren kills the children of the root of the tree. It does not examine each of them first.
func (p *processes) KillChildren() {
	if p.guardKills() {
		p.guard.KillChildren()
		return
	}
	p.Tree.KillChildren()
}

// guardKills reports whether the guard may kill all of its children. It returns false if the run keeps some of them,
// because the guard cannot distinguish these children.
func (p *processes) guardKills() bool {
	return p.guard != nil && p.Level() == tree.Subreaper && !p.Keeps()
}

// Empty reports whether no member is left. If the guard has just ended, Empty returns false, because the tree then
// examines only the guard's children.
func (p *processes) Empty(childless bool) bool {
	return p.Tree.Empty(childless) && (p.guard == nil || !p.guard.Ended())
}

// stopBegun makes the guard stop forwarding stop signals. Later stop signals belong to the stop that has begun.
func (p *processes) stopBegun(stopOn []int) {
	if p.guard == nil {
		return
	}
	var signals []syscall.Signal
	for _, sig := range forward.Audible() {
		if forward.MeaningIn(sig, stopOn) == forward.Stop {
			signals = append(signals, sig)
		}
	}
	p.guard.Drop(signals)
}
