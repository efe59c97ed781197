package runner

import (
	"errors"
	"log/slog"
	"os"
	"strconv"
	"time"

	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/report"
	"graceful/runner/terminal"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// SupervisorName is the argv[0] of the supervisor.
const SupervisorName = "graceful: supervising"

// Supervise performs a run as the supervisor, and sends its result to the front. args are the process's arguments after
// argv[0]. It returns the exit status. Only the front sees that status.
func Supervise(args []string, logger func(Config, time.Time) *slog.Logger) (int, error) {
	p, m, err := inherit(args, logger)
	if err != nil {
		return machine.StatusFailed, err
	}
	if err := p.makeCgroup(m.run); err != nil { // the run ends before anything has started; the error is logged
		if send(p.link, finished, machine.StatusFailed) != nil {
			registry.Remove(m.run.Socket)
			err = errors.Join(err, discard(m.ledger))
		}
		return machine.StatusFailed, err
	}
	unheard := send(p.link, listening, 0)
	l := p.newLoop(m)
	var r Run
	if unheard == nil && unix.Getppid() == p.front {
		l.in.orphaned = p.pty.Front.Gone
		r = l.start()
	} else { // nothing has started, and the front has ended or cannot receive messages
		l.handle(machine.PeerEnded{})
		r = l.complete()
	}
	result := r.result()
	sent := send(p.link, raising, result.Raise) == nil && send(p.link, finished, result.Status) == nil
	if !sent || l.in.orphaned == nil { // otherwise the front does it
		registry.Remove(r.Socket)
		err = discard(m.ledger)
	}
	return result.Status, err
}

// inherit reads the arguments that startSupervisor gives, and takes over the descriptors that they name. Then it takes
// over the process, and listens to the link.
func inherit(args []string, logger func(Config, time.Time) *slog.Logger) (p *processes, m remembered, err error) {
	if len(args) != 7 {
		return nil, m, errors.New("this is for graceful itself to call")
	}
	ledgerFD, err1 := strconv.Atoi(args[1])
	link, err2 := strconv.Atoi(args[2])
	socket, err3 := strconv.Atoi(args[4])
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, m, err
	}
	unix.CloseOnExec(link)
	if socket >= 0 {
		unix.CloseOnExec(socket)
	}
	runLedger, err := ledger.Inherited(ledgerFD, args[3])
	if err != nil {
		return nil, m, err
	}
	if m, err = read(runLedger); err != nil {
		return nil, m, err
	}
	_ = os.WriteFile("/proc/self/comm", []byte("graceful"), 0) // not "exe": pgrep(1) finds graceful by its name
	log := logger(m.run.Config, m.Began)
	if err = tree.AdoptOrphans(); err != nil {
		return nil, m, err
	}
	pty, err := terminal.InheritPTY(args[5], m.Begin.Front, log)
	if err != nil {
		return nil, m, err
	}
	destination, err := report.Inherit(args[6], m.run.Config.Report)
	if err != nil {
		return nil, m, err
	}
	front := watchFront(link, pty)
	// The front has logged the warnings of the same preparation.
	if p, err = prepare(m.run.Config, slog.New(slog.DiscardHandler)); err != nil {
		return nil, m, err
	}
	p.inherit = process.Inherited{Ignored: m.Begin.Ignored, Blocked: m.Begin.Blocked}
	p.log, p.front, p.supervisor, p.link, p.socket, p.report = log, m.Begin.Front, unix.Getpid(), link, socket, destination
	if group, err := unix.Getpgid(p.front); err == nil && !m.run.Config.PTY {
		p.terminal = terminal.Open(group)
	}
	p.pty = newPolicy(pty, m.run.Config)
	p.pty.Front = front
	return p, m, nil
}

// watchFront listens to the link: to the front's message, and for the front's end.
func watchFront(link int, pty *terminal.PTY) *terminal.Front {
	relayed, gone := make(chan struct{}), make(chan struct{})
	go func() {
		messages := messagesFrom(link)
		if _, open := <-messages; open {
			close(relayed)
			for range messages {
			}
		}
		pty.Restore()
		pty.Begin(false)
		close(gone)
	}()
	return &terminal.Front{Relayed: relayed, Gone: gone, Relay: func(stopping bool) error {
		value := 0
		if stopping {
			value = 1
		}
		return send(link, relayOutput, value)
	}}
}
