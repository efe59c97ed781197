package runner

import (
	"cmp"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/procfs"
	"graceful/runner/report"
	"graceful/runner/terminal"
	"graceful/runner/tree"
)

// SuccessorName is argv[0] of a graceful that the guard has started after the previous graceful was killed.
const SuccessorName = "graceful: taking over"

// TakeOver resumes a run after graceful was killed: it stops the tree and runs the cleanup commands. args are the
// arguments after argv[0]. logger makes the logger from the configuration of the run and the time at which the run
// began. flush writes the log before the guard ends, because observers consider the run as ended when the guard ends.
// TakeOver returns the exit status, which only the guard receives.
func TakeOver(args []string, logger func(Config, time.Time) *slog.Logger, flush func()) (int, error) {
	go startListening()
	sys, rec, err := inherit(args, logger)
	if err != nil {
		return machine.StatusFailed, err
	}
	sys.guard.Lead()
	rec.history.RecordTakeover()
	l := sys.newLoop(rec)
	if rec.run.State != machine.Done { // otherwise only the report may be missing, which complete writes
		sys.log.Warn("graceful was killed; taking over the run")
		if lost, orphaned := sys.lostGuard(); lost {
			l.continueWithoutGuard(orphaned)
		} else {
			l.takeOver()
			l.handle(machine.PeerEnded{})
		}
	}
	r := l.complete()
	if err = sys.conclude(r, rec.ledger); err == errCommands {
		err = nil
	}
	if err == nil {
		flush()
	}
	sys.closeGuard()
	sys.pty.Deliver(sys.listener.Signals)
	return r.result().Status, err
}

// inherit parses the arguments that succession has made, opens the descriptors in them, and sets up the process.
func inherit(args []string, logger func(Config, time.Time) *slog.Logger) (sys *realSystem, rec recordedRun, err error) {
	if len(args) != 10 {
		return nil, rec, errors.New("this is for graceful itself to call")
	}
	ledgerFD, err1 := strconv.Atoi(args[1])
	link, err2 := strconv.Atoi(args[2])
	memory, err3 := strconv.Atoi(args[3])
	socket, err4 := strconv.Atoi(args[5])
	devNull, err5 := strconv.Atoi(args[6])
	proc, err6 := strconv.Atoi(args[7])
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return nil, rec, err
	}
	procfs.Inherit(proc)
	if socket >= 0 {
		unix.CloseOnExec(socket)
	}
	guard, err := process.OpenGuard(link, memory)
	if err != nil {
		return nil, rec, err
	}
	runLedger, err := ledger.Inherited(ledgerFD, args[4])
	if err != nil {
		return nil, rec, err
	}
	if err = retry(func() (err error) { rec, err = read(runLedger); return err }); err != nil {
		return nil, rec, err
	}
	procfs.SetName("graceful") // else the name is a number; pgrep(1) finds graceful by its name
	log := logger(rec.run.Config, rec.Began)
	pty, err := terminal.InheritPTY(args[8], rec.Begin.Terminal, log)
	if err != nil {
		return nil, rec, err
	}
	destination, err := report.Inherit(args[9], rec.run.Config.Report)
	if err != nil {
		return nil, rec, err
	}
	// Do not log the warnings of prepare again. The first graceful has already logged them.
	if sys, err = prepare(rec.run.Config, slog.New(slog.DiscardHandler)); err != nil {
		return nil, rec, err
	}
	if err = tree.AdoptOrphans(); err != nil {
		return nil, rec, err
	}
	unix.CloseOnExec(devNull)
	sys.devNull.Close()
	sys.devNull = os.NewFile(uintptr(devNull), os.DevNull) // the guard has the file under the same number
	sys.inherited = process.Inherited{Ignored: rec.Begin.Ignored, Blocked: rec.Begin.Blocked}
	sys.log, sys.guard, sys.socket, sys.report, sys.runStart = log, guard, socket, destination, rec.Start
	sys.socketLock = registry.Hold(rec.run.Socket)
	sys.SetRoot(guard.PID())
	if workingDir() == "/" { // the guard has left its working directory
		rec.run.Dir = string(rec.Begin.Dir)
	}
	if !rec.run.Config.PTY {
		sys.terminal = terminal.Reopen(rec.Begin.Terminal, guard.PID())
	}
	sys.pty = newPolicy(pty, rec.run.Config)
	sys.pty.Restore()
	sys.pty.Begin(false)
	return sys, rec, nil
}

// takeOver compares a run with the processes that the guard has started, and adds starts and ends of processes that the
// killed graceful has not recorded. Then it performs the actions with which a process resumes the run (machine.Resume),
// and reaps the processes that have ended.
func (l *loop) takeOver() {
	started := l.sys.started()
	target := l.run.Target
	l.sys.setTarget(l.run)
	for _, s := range l.run.Stop.Sent {
		if !s.Alone && s.Tick != 0 {
			l.sys.NoteEarlierStop(syscall.Signal(s.Signal), s.All, procfs.Moment{Tick: s.Tick, PID: s.PID})
		}
	}
	switch pid := started[0]; {
	case target.PID != 0 && !target.Ended && pid != target.PID: // the target was reaped, but its end was not recorded
		l.handle(machine.Recovered{After: time.Since(l.began)})
	case l.run.State == machine.Starting && pid != 0:
		l.run.Target.PID = pid
		l.sys.setTarget(l.run)
		l.handle(machine.TargetStarted{PID: pid, Start: l.startTime(pid)})
	}
	l.sys.predecessorEnded(l.run.Target.PID)
	for _, id := range l.run.Cleanup.Active {
		switch c := l.command(id); {
		case c.PID == 0 && started[id] != 0:
			l.commandStarted(c, started[id], l.sys.discarded(id))
		case c.PID == 0:
		case started[id] != c.PID: // the command was reaped, but its end was not recorded
			l.handle(machine.CommandEnded{ID: id, Unseen: true})
		case c.When == cleanup.AtExit && l.run.State < machine.Cleaning:
			l.sys.Exempt(c.PID)
		}
	}
	for c := range l.run.Cleanup.Entries.All() {
		l.awaitExit(*c)
	}
	for _, a := range machine.Resume(l.run.Run) {
		l.performAction(a)
	}
	l.reapAll() // a process that has already ended did not end because of the takeover
}

// retry calls a function that makes system calls, up to three times, because system calls may fail temporarily.
func retry(try func() error) (err error) {
	for range 3 {
		if err = try(); err == nil {
			return nil
		}
	}
	return err
}

// older compares processes by their start times, and then by their pids. A process with an unknown start time comes
// last.
func older(a, b procfs.Process) int {
	return cmp.Or(cmp.Compare(a.Start-1, b.Start-1), cmp.Compare(a.PID, b.PID))
}
