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

// startGuard forks the guard, which starts the target and the commands and is their parent. Graceful itself performs
// the run. Both processes are subreapers. If graceful is killed first, the guard starts a new graceful, which resumes
// the run from the ledger. If the guard is killed first, the tree is reparented to graceful, which continues without a
// guard.
//
// If runLedger is nil, startGuard makes a ledger in memory, which a new graceful inherits. It returns the ledger of the
// run. An error means that no process was started.
func (sys *realSystem) startGuard(r Run, runLedger *ledger.Ledger) (_ *ledger.Ledger, err error) {
	if err = tree.AdoptOrphans(); err != nil {
		return nil, err
	}
	made := runLedger == nil
	if made {
		if runLedger, err = ledger.InMemory(); err != nil {
			return nil, err
		}
		if err = recordBegin(runLedger, r, sys); err != nil {
			return nil, errors.Join(err, runLedger.Close())
		}
	}
	if sys.guard, err = process.StartGuard(sys.succession(r, runLedger)); err != nil {
		if made {
			err = errors.Join(err, runLedger.Close())
		}
		return nil, err
	}
	sys.SetRoot(sys.guard.PID())
	if sys.terminal != nil {
		sys.guard.RecordSuspensions()
	}
	return runLedger, nil
}

// succession returns the data from which the guard starts a new graceful.
func (sys *realSystem) succession(r Run, runLedger *ledger.Ledger) process.Succession {
	terminal, pty := sys.pty.Inheritance()
	destination, report := sys.report.Inheritance()
	devNull := int(sys.devNull.Fd())
	keep := slices.Concat(pty, report, []int{runLedger.FD(), devNull, procfs.Dir(), sys.socket})
	isNone := func(fd int) bool { return fd < 0 }
	keep = slices.DeleteFunc(keep, isNone)
	return process.Succession{
		KeptFDs:     slices.DeleteFunc(append(slices.Clone(keep), sys.socketLock), isNone),
		MayLeaveDir: r.Dir != "",
		Forwarded:   forward.Deliverable(),
		Successor: func(link, memory int) process.Spec {
			return process.Spec{
				Program: process.SelfExe,
				Argv: []string{
					SuccessorName, r.Config.Name, strconv.Itoa(runLedger.FD()), strconv.Itoa(link), strconv.Itoa(memory),
					runLedger.Path(), strconv.Itoa(sys.socket), strconv.Itoa(devNull), strconv.Itoa(procfs.Dir()),
					terminal, destination,
				},
				Env:     process.RuntimeEnv(os.Environ()),
				KeptFDs: append(slices.Clone(keep), link, memory),
				Ignored: sys.ignoredInCommands(),
			}
		},
	}
}

// endGuard kills the guard when the run is done, and reaps the zombies that are reparented to this process.
func (sys *realSystem) endGuard() {
	sys.closeGuard()
	for {
		pid, _, _ := sys.children.Peek()
		if pid == 0 {
			return
		}
		sys.children.Reap(pid)
	}
}

// closeGuard kills the guard, if there is one, and restores the priority of this process. From then on this process
// itself starts processes.
func (sys *realSystem) closeGuard() {
	if sys.guard != nil {
		sys.guard.Close()
		sys.guard = nil
	}
	if sys.priorityRaised {
		sys.oldPriority.Restore()
		sys.priorityRaised = false
	}
}

// started maps the ids of commands to the pids of the processes that the guard has started and not reaped. The id of
// the target is 0. After lostGuard has reported the end of the guard, the map shows the state at that end. Otherwise,
// without a guard, the map is nil.
func (sys *realSystem) started() map[int]int {
	if sys.guard == nil {
		return sys.startedByGuard
	}
	return sys.guard.Started()
}

// discarded reports which outputs of a command lead to /dev/null, because the outputs of graceful had no reader. The
// guard has started that command.
func (sys *realSystem) discarded(id int) (outputs cleanup.Outputs) {
	outputs.Stdout, outputs.Stderr = sys.guard.Replaced(id)
	return outputs
}

// lostGuard reports whether the guard has ended. It reports each end once, and no end that the method start has
// handled. From then on this process is the root of the tree. orphaned means that the tree is not reparented to this
// process, because this process is a child of the guard.
func (sys *realSystem) lostGuard() (lost, orphaned bool) {
	if sys.guard == nil || !sys.guard.Ended() {
		return false, false
	}
	orphaned = !sys.guard.IsChild()
	sys.startedByGuard = sys.guard.Started()
	sys.closeGuard()
	sys.SetRoot(unix.Getpid())
	return true, orphaned
}

func (sys *realSystem) isGuardChild() bool { return sys.guard == nil || sys.guard.IsChild() }

// continueWithoutGuard continues the run after the guard has ended. If the tree is orphaned, it finds the members as
// graceful recover does, and ends the run.
func (l *loop) continueWithoutGuard(orphaned bool) {
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
	l.recover(recordedRun{Replayed: journal.Replayed{Last: time.Since(l.began)}}, true, false)
}

// findOrphaned replaces sys.Tree by a tree of the orphaned members of a run. It finds these members as graceful recover
// does.
func (sys *realSystem) findOrphaned(r Run) error {
	t, err := tree.OpenOrphaned("GRACEFUL_RUN_ID="+r.ID, recordedIdentities(r), sys.runStart)
	if err == nil {
		sys.Tree = t
		sys.Confine(r.Cgroup)
	}
	return err
}

// reapOwn reaps the children of this process that have ended and that the guard did not start. Some are children from
// before the execve(2) of graceful. If graceful is PID 1, orphans from outside the tree are children as well. After the
// end of the guard reapOwn does nothing, because the guard's children may have become children of this process.
func (sys *realSystem) reapOwn() {
	for {
		pid, _, _ := sys.children.Peek()
		if pid == 0 || sys.guard.Ended() || sys.guard.WasParentOf(pid) {
			return
		}
		sys.children.Reap(pid)
		sys.NoteReaped(pid)
	}
}

// spawner starts processes and is their parent. It is this process or the guard.
type spawner interface {
	Start(s process.Spec, id int) (pid int, err error)
	StartOf(pid int) (dirGone bool, err error)
	Peek() (pid int, ending machine.Ending, childless bool)
	Reap(pid int)
	UsageOf(pid int) *machine.Usage
	SuspendedBy(pid int) syscall.Signal
}

func (sys *realSystem) spawner() spawner {
	if sys.guard != nil {
		return sys.guard
	}
	return sys.children
}

// peek returns a process that has ended and that the spawner has not reaped yet, or pid 0. The last result means that
// the spawner has no child, dead or alive. With a guard, peek also reaps children of this process that do not belong to
// the run.
func (sys *realSystem) peek() (int, machine.Ending, bool) {
	if sys.guard != nil {
		sys.reapOwn()
		if n := sys.guard.Orphans(); n > 0 {
			sys.log.Info("the guard reaped orphans", "count", n)
			if n >= process.ManyEnds {
				sys.raisePriority()
			}
		}
	}
	return sys.spawner().Peek()
}

func (sys *realSystem) reap(pid int) {
	sys.spawner().Reap(pid)
	sys.NoteReaped(pid)
}

// reapOrphans reaps the orphans that have ended, and calls reaped for each. isOrphan decides which adopted processes
// are orphans. With a guard it does nothing, because the guard reaps orphans itself.
func (sys *realSystem) reapOrphans(isOrphan func(pid int) bool, reaped func(pid int, ending machine.Ending)) {
	if sys.guard != nil {
		return
	}
	for _, pid := range sys.Adopted() {
		if !isOrphan(pid) {
			continue
		}
		if ending, ended := sys.children.ReapOrphan(pid); ended {
			sys.NoteReaped(pid)
			reaped(pid, ending)
		}
	}
}

func (sys *realSystem) usage(pid int) *machine.Usage { return sys.spawner().UsageOf(pid) }

// startOf returns the result of the start of an ended process. dirGone means that the process ran in an empty
// directory, because its working directory was gone. The error is that of a start that failed late.
func (sys *realSystem) startOf(pid int) (dirGone bool, err error) { return sys.spawner().StartOf(pid) }

// start starts the process of the command id, or of the target if id is 0. That process ignores the signals of
// s.Ignored. If the guard has ended, this process is the parent, unless the tree is orphaned: then start returns
// EAGAIN.
func (sys *realSystem) start(s process.Spec, id int) (pid int, err error) {
	if sys.guard != nil {
		if pid, err = sys.guard.Start(s, id); !errors.Is(err, process.ErrGuardEnded) {
			return pid, err
		}
		if !sys.guard.IsChild() { // the loop will find out that the guard has ended
			return 0, unix.EAGAIN
		}
		sys.closeGuard()
		sys.SetRoot(unix.Getpid())
		sys.log.Warn("the guard was killed; continuing without a guard",
			"hint", "if graceful itself is killed now, nothing is cleaned up")
	}
	if process.SetsIgnored {
		return sys.children.Start(s, id)
	}
	sys.listener.Ignoring(func() { pid, err = sys.children.Start(s, id) })
	return pid, err
}

// KillChildren kills the children of the root of the tree, without examining each child first. It kills no excluded
// child and no command that the guard has started. KillChildren does nothing at level Group, if there is neither a
// guard nor /proc, or if the root is a guard that may not kill its children (see guardKills).
func (sys *realSystem) KillChildren() {
	if sys.guardKills() {
		sys.guard.KillChildren()
		return
	}
	sys.Tree.KillChildren()
}

// guardKills reports whether there is a guard that may kill all of its children except commands. It returns false at
// level Group, and if the run keeps some of the children, because the guard cannot distinguish these.
func (sys *realSystem) guardKills() bool {
	return sys.guard != nil && sys.Level() == tree.Subreaper && !sys.HasKept()
}

// Empty reports whether no member is left. If the guard has ended, Empty returns false until lostGuard was called,
// because the tree still looks only for children of the guard.
func (sys *realSystem) Empty(childless bool) bool {
	return sys.Tree.Empty(childless) && (sys.guard == nil || !sys.guard.Ended())
}

// stopBegun makes the guard stop forwarding the signals of stopOn, because a stop has begun. Such a signal that reaches
// the guard later belongs to that stop.
func (sys *realSystem) stopBegun(stopOn []int) {
	if sys.guard == nil {
		return
	}
	var signals []syscall.Signal
	for _, sig := range forward.Deliverable() {
		if forward.MeaningIn(sig, stopOn) == forward.Stop {
			signals = append(signals, sig)
		}
	}
	sys.guard.DropSignals(signals)
}
