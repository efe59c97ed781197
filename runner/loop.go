package runner

import (
	"log/slog"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/registry"
	"graceful/forward"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// loop performs the decisions of the machine. All its methods run in one goroutine.
type loop struct {
	run       Run
	sys       system
	log       *slog.Logger
	inputs    inputs
	recorder  recorder
	sweeper   sweeper
	watcher   watcher
	registrar registrar

	began      time.Time   // time at which the run began
	stopOn     []int       // signals that begin a stop
	ofDeadRun  bool        // the loop finishes a dead run, whose options do not apply to signals to this process
	timer      *time.Timer // for the earliest time at which work is due
	suspension suspension
	announcer  announcer
	firstStop  syscall.Signal // first stop signal, even if it had no effect; SIGTERM for the end of the parent; 0: none
}

// inputs contains the channels that the loop waits for. A nil channel is never ready.
type inputs struct {
	signals    <-chan syscall.Signal
	children   <-chan struct{}        // a child may have ended; one value may report many ends
	parentGone <-chan struct{}        // closed when the process that started graceful has ended
	relayed    <-chan struct{}        // closed when the rest of the target's output is relayed, or at a limit
	broken     <-chan struct{}        // closed when standard output has no reader any more (--pty)
	requests   <-chan registry.Call   // requests for cleanup commands
	exits      <-chan procfs.Identity // identities of processes whose end a command waits for
}

// start starts the target and performs the run to its end.
func (l *loop) start() Run {
	l.performAction(machine.StartTarget{})
	return l.complete()
}

// complete performs the run from its present state to its end, and writes the report.
func (l *loop) complete() Run {
	l.timer = time.NewTimer(time.Hour)
	l.timer.Stop()
	for l.run.State != machine.Done {
		l.reapAll()
		if l.run.State == machine.Done {
			break
		}
		l.checkSuspension()
		l.setTimer()
		l.handleNext()
	}
	if err := l.sys.writeReport(l.run, l.recorder.history); err != nil {
		l.log.Warn("the run is done, but", "err", err)
	}
	return l.run
}

// handleNext waits for an input and handles it. Before most inputs it handles the children that have ended, because
// those ends may have come before the input, and must not count as effects of the input.
func (l *loop) handleNext() {
	select {
	case sig := <-l.inputs.signals:
		l.reapAll()
		l.handleSignal(sig)
	case <-l.inputs.children:
	case <-l.inputs.parentGone:
		l.inputs.parentGone = nil
		l.reapAll()
		if l.run.Stop.Count == 0 { // otherwise a stop has begun, and the parent may end
			l.log.Warn("stopping the run", "err", parentEnded)
			l.handleStop(unix.SIGTERM)
		}
	case <-l.inputs.relayed:
		l.inputs.relayed = nil
		l.handle(machine.Relayed{})
	case <-l.inputs.broken:
		l.inputs.broken = nil
		l.reapAll()
		l.handleSignal(unix.SIGHUP)
	case call := <-l.inputs.requests:
		l.reapAll()
		l.request(call)
	case id := <-l.inputs.exits:
		l.reapAll()
		l.processExited(id)
	case <-l.timer.C:
		l.reapAll()
		l.handleTimers()
	}
}

// handleStop tells the machine about a stop signal, and stores the first one.
func (l *loop) handleStop(sig syscall.Signal) {
	if l.firstStop == 0 {
		l.firstStop = sig
	}
	l.handle(machine.Signalled{Signal: int(sig), Meaning: forward.Stop})
}

func (l *loop) handleSignal(sig syscall.Signal) {
	meaning := forward.MeaningIn(sig, l.stopOn)
	switch {
	case sig == unix.SIGCONT:
		l.suspension = suspension{}
		if !l.run.Target.Ended {
			l.sys.continued(l.run.Target.PID)
		}
	case !l.run.Target.Ended && l.sys.reclaimTerminal(l.run.Target.PID, sig):
		l.log.Info("took the terminal back", "signal", forward.Name(sig))
		return
	case !l.ofDeadRun && l.run.Config.Rewritten(int(sig)) == 0:
		l.log.Info("dropped signal", "signal", forward.Name(sig))
		return
	case meaning == forward.Stop:
		l.handleStop(sig)
		return
	}
	l.handle(machine.Signalled{Signal: int(sig), Meaning: meaning})
}

// reapLimit is the maximum number of ends that one call of reapAll handles. Without this limit, signals, timers and
// SIGKILL would be delayed as long as children end faster than graceful reaps them.
const reapLimit = 1000

// reapAll handles the ends of children, up to reapLimit, and reaps each child after handling its end. While the tree is
// being emptied, it also checks whether the tree is empty, and if not, calls killMore.
//
// Until a child is reaped, the kernel does not reuse its pid. So no other process group has the id of the group that
// the child leads.
func (l *loop) reapAll() {
	if lost, orphaned := l.sys.lostGuard(); lost {
		l.continueWithoutGuard(orphaned)
	}
	l.limitScan()
	for n := 0; l.run.State != machine.Done; n++ {
		pid, ending, childless := l.sys.peek()
		if pid != 0 && n < reapLimit {
			l.handleEnd(pid, ending)
			continue
		}
		if pid != 0 {
			if l.sweeper.killing && !l.killsGroup() {
				l.sys.KillChildren()
			}
			l.sys.raisePriority()
			l.sweeper.nextCheck = time.Now() // the next call handles the rest
			return
		}
		l.checkExits()
		if !l.emptying() {
			return
		}
		if !l.sys.Empty(childless) {
			l.killMore()
			return
		}
		l.sweeper.stop()
		l.handle(machine.TreeEmptied{})
	}
}

// handleEnd handles the end of a child, and reaps it.
func (l *loop) handleEnd(pid int, ending machine.Ending) {
	l.sweeper.pause = 0
	dirGone, failed := l.sys.startOf(pid)
	switch id, isCommand := l.commandOf(pid); {
	case pid == l.run.Target.PID && !l.run.Target.Ended && failed != nil:
		l.targetFailed(failed)
	case pid == l.run.Target.PID && !l.run.Target.Ended:
		l.reapOrphans()
		e := machine.TargetEnded{Ending: ending, After: time.Since(l.began)}
		if l.recorder.history != nil {
			e.Usage = l.sys.usage(pid)
		}
		l.handle(e)
	case isCommand && failed != nil:
		l.commandFailed(id, failed)
	case isCommand:
		if dirGone {
			log := logCommand(l.log, l.command(id))
			log.Warn("cleanup command ran in an empty directory", "err", "its working directory is gone")
		}
		l.handle(machine.CommandEnded{ID: id, Ending: ending})
	default:
		if l.sweeper.killing && ending.Signal == machine.SigKILL && l.recorder.history.ListsKilled(l.run.Run) {
			l.recorder.history.RecordKilled(l.sys.Child(pid), l.run.Run)
		}
		l.logOrphan(pid, ending)
	}
	if len(l.watcher.waitingCommands) > 0 {
		l.processExited(l.sys.Child(pid).Identity)
	}
	l.sys.reap(pid)
}

// reapOrphans reaps the orphans that have ended. It is called before the survivors of the target are signalled, because
// a scan of the tree reads files of /proc for each zombie.
func (l *loop) reapOrphans() {
	if l.sweeper.killing || len(l.watcher.waitingCommands) > 0 {
		return // handleEnd must see each end
	}
	l.sys.reapOrphans(func(pid int) bool {
		_, isCommand := l.commandOf(pid)
		return pid != l.run.Target.PID && !isCommand
	}, l.logOrphan)
}

func (l *loop) logOrphan(pid int, ending machine.Ending) {
	l.log.Info("reaped an orphan", "pid", pid, "status", ending.Status())
}

// commandOf returns the id of the running command whose process has the pid.
func (l *loop) commandOf(pid int) (id int, ok bool) {
	for _, id := range l.run.Cleanup.Active {
		if l.command(id).PID == pid {
			return id, true
		}
	}
	return 0, false
}

// handle lets the machine decide on an event, records the event, and performs the actions. If a request cannot be
// recorded, handle refuses the request instead.
func (l *loop) handle(e machine.Event) {
	was, escalated := l.run.State, l.run.Stop.Escalated
	l.logEvent(e)
	now := time.Now()
	r, actions := l.run.advanced(e, now)
	if !l.reserve(e, r) {
		return
	}
	if err := l.recorder.event(e, r.Changed(l.run.Run), now, l.log); err != nil && l.undoRequest(e, r, err) {
		return
	}
	l.recorder.history.RecordEvent(l.run.Run, r.Run, e, now)
	l.limitScan()
	ended, stopped := r.Target.Ended && !l.run.Target.Ended, r.Stop.Count > 0 && l.run.Stop.Count == 0
	l.run = r
	if ended {
		l.sys.targetEnded(r)
	}
	if stopped {
		l.sys.stopBegun(l.stopOn)
	}
	if r.Stop.Escalated && !escalated {
		l.announcer.killReason = l.killReason(e)
	}
	l.announcer.schedule(r.Run, time.Now())
	l.notifyEnd()
	if l.run.State != was {
		l.log.Info("state changed", "state", l.run.State.String(), "was", was.String())
		l.logSurvivors(e, was)
		if was < machine.Sweeping && l.run.State >= machine.Sweeping {
			l.sys.SignalOutsiders()
		}
		if was < machine.Cleaning && l.run.State >= machine.Cleaning {
			l.beginCleaning()
		}
	}
	for _, a := range actions {
		l.performAction(a)
	}
}

// guardPause is the time between two checks for a suspended guard that is not a child of graceful. No signal reports
// that state.
const guardPause = time.Second / 2

// setTimer sets the timer to the earliest time at which work is due.
func (l *loop) setTimer() {
	l.timer.Stop()
	due := []time.Time{l.sweeper.nextCheck, l.suspension.nextCheck, l.watcher.nextPoll, l.announcer.nextMessage}
	due = slices.DeleteFunc(due, time.Time.IsZero)
	for _, d := range l.run.Deadlines {
		due = append(due, d.At)
	}
	if !l.sys.isGuardChild() {
		due = append(due, time.Now().Add(guardPause))
	}
	if len(due) > 0 {
		l.timer.Reset(time.Until(slices.MinFunc(due, time.Time.Compare)))
	}
}

func (l *loop) handleTimers() {
	now := time.Now()
	if !l.sweeper.nextCheck.After(now) {
		l.sweeper.nextCheck = time.Time{} // the next reapAll checks whether the tree is empty
	}
	l.suspendWhenDue(now)
	if !l.announcer.nextMessage.IsZero() && !l.announcer.nextMessage.After(now) {
		l.logWaiting(now)
	}
	for {
		i := slices.IndexFunc(l.run.Deadlines, func(d machine.Deadline) bool { return !d.At.After(now) })
		if i < 0 {
			return
		}
		if due := l.run.Deadlines[i].Timer; due.ID == 0 {
			l.handle(machine.TimeUp{Name: due.Name})
		} else {
			l.handle(machine.CommandTimer{ID: due.ID, Name: due.Name})
		}
	}
}
