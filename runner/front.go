package runner

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/forward"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// A run with a guard has two processes of graceful. The user starts the front. The front starts the supervisor, which
// performs the run, and forwards signals to it. Both processes are subreapers.
//
// If the supervisor is killed, the tree is reparented to the front, which resumes the run from the ledger. If the front
// is killed, its end of the link closes, and the supervisor stops the run.

// runGuarded performs a run in a supervisor, and takes the run over if the supervisor is killed. Without a ledger it
// makes one in memory, which both processes share. An error means that nothing was started.
func (p *processes) runGuarded(r Run, runLedger *ledger.Ledger) (result Result, err error) {
	if err = tree.AdoptOrphans(); err != nil {
		return result, err
	}
	if err = unix.Access(process.SelfExe, unix.X_OK); err != nil {
		return result, fmt.Errorf("%s: %w", process.SelfExe, err)
	}
	if runLedger == nil {
		if runLedger, err = ledger.InMemory(); err != nil {
			return result, err
		}
		if err = begin(runLedger, r, p.inherit); err != nil {
			return result, errors.Join(err, runLedger.Close())
		}
	}
	unread := beginning(r, nil)
	if err = p.startSupervisor(r, runLedger); err != nil {
		return result, err
	}
	p.listener.Hear()
	w := supervisorWatch{processes: p}
	ending := w.untilEnd()
	if w.done {
		process.Reap(p.supervisor)
		return w.result, nil
	}
	return p.takeOverFrom(ending, runLedger, unread)
}

// startSupervisor starts the supervisor, and opens the link. No other process may hold the front's end of it, because
// its closing tells the supervisor that the front has ended.
func (p *processes) startSupervisor(r Run, runLedger *ledger.Ledger) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return fmt.Errorf("a pair of sockets: %w", err)
	}
	for _, fd := range pair {
		unix.CloseOnExec(fd)
	}
	defer unix.Close(pair[1])
	terminal, fds := p.pty.Inheritance()
	destination, more := p.report.Inheritance()
	s := process.Spec{
		Path: process.SelfExe,
		Argv: []string{
			SupervisorName, r.Config.Name, strconv.Itoa(runLedger.FD()), strconv.Itoa(pair[1]), runLedger.Path(),
			strconv.Itoa(p.socket), terminal, destination,
		},
		Env:     process.RuntimeEnv(os.Environ()),
		Keep:    slices.Concat(fds, more, []int{runLedger.FD(), pair[1]}),
		Ignored: p.ignoredByParents(),
	}
	if p.socket >= 0 {
		s.Keep = append(s.Keep, p.socket)
	}
	pid, err := s.Start()
	if err != nil {
		unix.Close(pair[0])
		return fmt.Errorf("starting the supervisor: %w", err)
	}
	p.supervisor, p.link = pid, pair[0]
	return nil
}

// takeOverFrom completes the run of a supervisor that ended before the run was done, and reaps the supervisor. unread
// is what is known of the run without the ledger, which does not record everything.
func (p *processes) takeOverFrom(
	ending machine.Ending, runLedger *ledger.Ledger, unread remembered,
) (Result, error) {
	var m remembered
	if err := retry(func() (err error) { m, err = read(runLedger); return err }); err != nil {
		p.log.Error("no cleanup command is run", "err", err)
		m = unread
		m.run.Cleanup.Stack = cleanup.Stack{} // the tree still has to be emptied
	}
	process.Reap(p.supervisor)
	m.history.TakeOver()
	if m.run.State == machine.Done {
		return p.newLoop(m).complete().result(), nil // it may not have written the report
	}
	unstarted := m.run.State == machine.Starting && m.ledger != nil && len(p.Children()) == 0
	if unread.run.Config.Guard == GuardAuto && unstarted {
		p.supervisor = 0
		how := fmt.Sprintf("exited with status %d", ending.Code)
		if ending.Signal != 0 {
			how = "was ended by SIG" + forward.Name(syscall.Signal(ending.Signal))
		}
		return Result{}, fmt.Errorf("before it had started anything, the supervisor %s", how)
	}
	l := p.newLoop(m)
	log := logEnding(p.log, ending)
	log.Warn("the supervisor ended; taking over the run")
	l.takeOver(m)
	l.handle(machine.PeerEnded{})
	return l.complete().result(), nil
}

// supervisorWatch is what the front knows of a supervisor that runs.
type supervisorWatch struct {
	*processes
	result Result
	done   bool // the supervisor has sent that the run is done; result is complete
	stops  bool // a stop signal was received

	// A nil channel is never ready.
	messages   <-chan message
	signals    <-chan syscall.Signal
	parentGone <-chan struct{}
	relayed    <-chan struct{}
	broken     <-chan struct{} // the target's own terminal has lost its reader
}

// untilEnd forwards signals to the supervisor until the supervisor has ended. It returns how the supervisor ended, and
// leaves it unreaped.
func (w *supervisorWatch) untilEnd() machine.Ending {
	w.messages, w.broken = messagesFrom(w.link), w.pty.Broken()
	for !w.reapOthers() {
		select {
		case m, open := <-w.messages:
			w.handle(m, open)
		case sig := <-w.signals:
			w.handleSignal(sig)
		case <-w.parentGone:
			w.parentGone = nil
			if !w.stops { // a parent that has asked for the stop may end
				w.log.Warn("stopping the run", "err", parentEnded)
				w.forward(unix.SIGTERM)
			}
		case <-w.broken:
			w.broken = nil
			w.forward(unix.SIGHUP)
		case <-w.relayed:
			w.relayed = nil
			_ = send(w.link, hasRelayed, 0)
		case <-w.listener.Children:
		}
	}
	for w.messages != nil {
		m, open := <-w.messages
		w.handle(m, open)
	}
	ending, _ := process.PeekAt(w.supervisor)
	return ending
}

// handle handles a message of the supervisor. open is false when the supervisor has closed the link.
func (w *supervisorWatch) handle(m message, open bool) {
	switch {
	case !open:
		w.messages = nil
	case m.kind == listening:
		w.signals, w.parentGone = w.listener.Signals, w.processes.parentGone
		w.pty.Begin(true)
	case m.kind == suspending:
		w.suspendUnlessContinued(syscall.Signal(m.value))
	case m.kind == relayOutput:
		w.relayed = w.pty.Relay(w.stops || m.value != 0)
	case m.kind == raising:
		w.result.Raise = int(m.value)
	case m.kind == finished:
		w.result.Status, w.done = int(m.value), true
	}
}

func (w *supervisorWatch) handleSignal(sig syscall.Signal) {
	w.stops = w.stops || forward.MeaningOf(sig) == forward.Stop
	if sig == unix.SIGCONT {
		w.terminal.Resumed()
	}
	w.pty.Heard(sig)
	w.forward(sig)
}

// forward forwards a signal to the supervisor. The supervisor is not reaped, so no other process has its pid. If a stop
// signal cannot be forwarded, the front closes the link: the supervisor then stops the run.
func (w *supervisorWatch) forward(sig syscall.Signal) {
	err := retry(func() error { return unix.Kill(w.supervisor, sig) })
	if err != nil && forward.MeaningOf(sig) == forward.Stop {
		_ = unix.Shutdown(w.link, unix.SHUT_RDWR)
	}
}

// suspendUnlessContinued suspends the front, unless a SIGCONT is waiting. A suspended front would not see that SIGCONT
// until it received another one.
func (w *supervisorWatch) suspendUnlessContinued(by syscall.Signal) {
	for {
		select {
		case sig := <-w.listener.Signals:
			w.pty.Heard(sig)
			w.forward(sig)
			if sig == unix.SIGCONT {
				return
			}
		default:
			w.pty.Pause()
			w.suspendSelf(by)
			return
		}
	}
}

// reapOthers reaps children that do not belong to the supervisor. The front inherits them as init or as subreaper. It
// reports whether the supervisor has ended. Then the front keeps the children that it has: they are taken over.
func (p *processes) reapOthers() (ended bool) {
	for {
		if _, ended := process.PeekAt(p.supervisor); ended {
			return true
		}
		pid, _, _ := process.Peek()
		if pid == 0 || pid == p.supervisor || p.Ending(p.supervisor) {
			_, ended := process.PeekAt(p.supervisor)
			return ended
		}
		p.reap(pid)
	}
}
