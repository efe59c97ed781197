package runner

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/procfs"
)

// beginCleaning prepares this process for cleanup, during which it starts only cleanup commands, and removes the run's
// cgroup.
func (l *loop) beginCleaning() {
	l.sys.prepareCleaning()
	if err := l.sys.Disband(); err != nil {
		l.log.Warn("ending containment", "err", err)
	}
}

// performAction performs an action of the machine, and records the action for the report.
func (l *loop) performAction(a machine.Action) {
	l.recorder.history.RecordAction(l.run.Run, a, time.Now())
	switch a := a.(type) {
	case machine.StartTarget:
		l.startTarget()
	case machine.ForwardSignal:
		l.forward(a)
	case machine.Suspend:
		now := time.Now()
		l.suspension = suspension{nextCheck: now.Add(suspendAfter), lastCheck: now.Add(suspendWithin)}
	case machine.SignalSurvivors:
		l.signalSurvivors(a)
	case machine.LeaveSurvivors:
		l.sweeper.stop()
		l.sys.Keep(hookID)
	case machine.KillTree:
		l.killTree()
	case machine.RelayRest:
		l.inputs.relayed = l.sys.relayRest(l.run, l.firstStop != 0)
	case machine.StartCommand:
		l.startCommand(a.ID)
	case machine.TerminateCommand:
		l.signalCommand(a.ID, unix.SIGTERM)
		l.signalCommand(a.ID, unix.SIGCONT)
	case machine.KillCommand:
		l.signalCommand(a.ID, unix.SIGKILL)
	case machine.Answer:
		l.registrar.answer = a
	default:
		panic(fmt.Sprintf("runner: the machine asked for %T, which no function performs", a))
	}
}

// forward sends a signal to the target or to its group. After a stop signal it also sends SIGCONT, because a suspended
// process cannot handle the signal, and records the stop signal for a successor of graceful.
func (l *loop) forward(a machine.ForwardSignal) {
	sig := syscall.Signal(a.Signal)
	to, send, resume := "group", l.sys.signalGroup, l.sys.signalGroup
	switch {
	case a.Alone:
		to, send, resume = "target", l.sys.signalTarget, l.sys.signalTarget
	case a.Resume: // a stop signal
		send = l.sys.stopGroup
	}
	l.log.Info("forwarding", "signal", forward.Name(sig), "to", to, "pid", l.run.Target.PID)
	if err := send(sig); err != nil {
		l.log.Warn("forwarding failed", "signal", forward.Name(sig), "err", err)
	}
	if a.Resume {
		_ = resume(unix.SIGCONT) // before the record, after which a successor sends neither signal again
		l.recordSent(machine.Sent{Signal: a.Signal, Alone: a.Alone})
		l.sys.NoteReceivers()
	}
}

// recordSent records for a successor of graceful that the stop signal s was sent, with a moment before it was sent. If
// that moment is unknown, recordSent omits a signal that was sent to all survivors, and a successor sends that signal
// again.
func (l *loop) recordSent(s machine.Sent) {
	at := l.sys.LastStop()
	if s.Tick, s.PID = at.Tick, at.PID; !s.All || at.Tick != 0 {
		l.handle(s)
	}
}

func (l *loop) signalSurvivors(a machine.SignalSurvivors) {
	signals, send := []syscall.Signal{syscall.Signal(a.Signal)}, l.sys.signalSurvivors
	if a.Resume {
		signals = append(signals, unix.SIGCONT)
	}
	if a.Rest {
		send = l.sys.signalRest
	}
	send(signals...)
	if a.Rest {
		l.recordSent(machine.Sent{Signal: a.Signal, All: true})
	}
}

// killTree begins to kill the tree. If the log or the report needs a list of the members, killTree makes that list
// before the first SIGKILL, because the parent of a killed member may reap that member at once.
func (l *loop) killTree() {
	var members []procfs.Process
	if l.announcer.killReason != "" || l.recorder.history.ListsKilled(l.run.Run) {
		l.sys.SetScanLimit(time.Now().Add(l.run.Patience())) // the list is only for messages
		members = l.sys.Members()
	}
	for _, p := range members {
		l.recorder.history.RecordKilled(p, l.run.Run)
	}
	l.sweeper.start()
	if l.run.State == machine.Cleaning {
		return // reapAll kills what the command has left. Mostly that is nothing, and no scan is needed.
	}
	l.limitScan()
	l.kill()
	l.logKilled(members)
}

// command returns the entry of a cleanup command or an on-stop command, or the zero Entry for an unknown id.
func (l *loop) command(id int) cleanup.Entry {
	c, _ := l.run.Cleanup.Get(id)
	return c
}

// signalCommand sends a signal to the process group of a command. It sends SIGKILL to all descendants of the command as
// well. If graceful and its guard cannot reap the command (watcher.polledCommands), every signal goes to the command
// and all its descendants.
func (l *loop) signalCommand(id int, sig syscall.Signal) {
	c := l.command(id)
	p := procfs.Identity{PID: c.PID, Start: c.Start}
	switch {
	case slices.Contains(l.watcher.polledCommands, p):
		l.sys.SignalAll(p, sig)
	case sig == unix.SIGKILL:
		l.sys.KillBelow(c.PID)
	default:
		l.sys.signalCommand(c.PID, sig)
	}
}

func (l *loop) startTarget() {
	pid, err := l.sys.startTarget(l.run)
	if err != nil {
		l.targetFailed(err)
		return
	}
	l.handle(machine.TargetStarted{PID: pid, Start: l.startTime(pid)})
}

// targetFailed handles a failed start of the target.
func (l *loop) targetFailed(err error) {
	status, hint := startFailure(l.run.Config.Command[0], err)
	l.log.Error("target not started", "command", l.run.Config.Command[0], "err", err, "hint", hint)
	l.handle(machine.TargetFailed{Status: status, Err: cleanup.Text(err.Error())})
}

func (l *loop) startCommand(id int) {
	c := l.command(id)
	if l.runsAlone() {
		log := logCommand(l.log, c)
		log.Debug("cleanup command starts", "run", l.run.ID)
	}
	pid, discarded, err := l.sys.startCommand(l.run, c)
	if err != nil {
		l.commandFailed(id, err)
		return
	}
	l.commandStarted(c, pid, discarded)
}

// commandFailed handles a failed start of a command.
func (l *loop) commandFailed(id int, err error) {
	lacking := process.OutOfResources(err)
	l.handle(machine.CommandFailed{
		ID: id, Err: cleanup.Text(err.Error()), Transient: lacking && l.command(id).PID == 0,
		Unstarted: lacking || errors.Is(err, process.ErrDir),
	})
}

// commandStarted handles the start of a command. A cleanup command that starts before the cleanup phase does not count
// as a member of the tree.
func (l *loop) commandStarted(c cleanup.Entry, pid int, discarded cleanup.Outputs) {
	e := machine.CommandStarted{ID: c.ID, PID: pid, Start: l.startTime(pid), Discarded: discarded}
	if c.When == cleanup.AtExit && l.run.State < machine.Cleaning {
		l.sys.Exempt(pid)
	}
	l.handle(e)
	l.notifyCommand(c)
}

// startTime returns the start time of a child for the ledger. Without a ledger it returns 0.
func (l *loop) startTime(pid int) uint64 {
	if l.recorder.ledger == nil {
		return 0
	}
	return l.sys.Child(pid).Start
}
