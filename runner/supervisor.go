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

// Supervise performs a run as the supervisor. args are the process's arguments after argv[0]. It returns the exit
// status. Only the front sees that status.
func Supervise(args []string, logger func(Config, time.Time) *slog.Logger) (int, error) {
	s, err := inherit(args, logger)
	if err != nil {
		return machine.StatusFailed, err
	}
	p, err := s.prepare()
	if err != nil {
		return machine.StatusFailed, err
	}
	if err := p.makeCgroup(s.run); err != nil { // the run ends before anything has started; the error is logged
		if send(s.link, finished, machine.StatusFailed) != nil {
			registry.Remove(s.run.Socket)
			err = errors.Join(err, discard(s.ledger))
		}
		return machine.StatusFailed, err
	}
	return s.supervise(p)
}

// supervisor is what the supervisor inherits from the front.
type supervisor struct {
	remembered
	log         *slog.Logger
	link        int // to the front
	socket      int // for registrations; below 0: none
	pty         *terminal.PTY
	destination *report.File
	frontGone   chan struct{} // closed when the front has ended
	relayed     chan struct{} // closed when the front has relayed the rest of the target's output
}

// inherit reads the arguments that startSupervisor gives, and takes over the descriptors that they name.
func inherit(args []string, logger func(Config, time.Time) *slog.Logger) (s supervisor, err error) {
	if len(args) != 7 {
		return s, errors.New("this is for graceful itself to call")
	}
	ledgerFD, err1 := strconv.Atoi(args[1])
	link, err2 := strconv.Atoi(args[2])
	socket, err3 := strconv.Atoi(args[4])
	if err := errors.Join(err1, err2, err3); err != nil {
		return s, err
	}
	s.link, s.socket = link, socket
	unix.CloseOnExec(link)
	if socket >= 0 {
		unix.CloseOnExec(socket)
	}
	runLedger, err := ledger.Inherited(ledgerFD, args[3])
	if err != nil {
		return s, err
	}
	if s.remembered, err = read(runLedger); err != nil {
		return s, err
	}
	_ = os.WriteFile("/proc/self/comm", []byte("graceful"), 0) // not "exe": pgrep(1) finds graceful by its name
	s.log = logger(s.run.Config, s.Began)
	if err = tree.AdoptOrphans(); err != nil {
		return s, err
	}
	if s.pty, err = terminal.InheritPTY(args[5], s.Begin.Front, s.log); err != nil {
		return s, err
	}
	s.destination, err = report.Inherit(args[6], s.run.Config.Report)
	return s, err
}

// prepare takes over the process, and listens to the link. The front has logged the warnings of the same preparation.
func (s *supervisor) prepare() (*processes, error) {
	s.frontGone, s.relayed = make(chan struct{}), make(chan struct{})
	go s.listen()
	inherited := process.Inherited{Ignored: s.Begin.Ignored, Blocked: s.Begin.Blocked}
	p, err := prepare(s.run.Config, inherited, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	p.front, p.supervisor, p.link, p.socket, p.report = s.Begin.Front, unix.Getpid(), s.link, s.socket, s.destination
	if group, err := unix.Getpgid(s.Begin.Front); err == nil && !s.run.Config.PTY {
		p.terminal = terminal.Open(group)
	}
	p.pty = newPolicy(s.pty, s.run.Config)
	p.pty.Front = &terminal.Front{Relayed: s.relayed, Gone: s.frontGone, Relay: func(stopping bool) error {
		value := 0
		if stopping {
			value = 1
		}
		return send(s.link, relayOutput, value)
	}}
	return p, nil
}

// listen closes relayed at the front's message, and frontGone when the front has ended.
func (s *supervisor) listen() {
	messages := messagesFrom(s.link)
	if _, open := <-messages; open {
		close(s.relayed)
		for range messages {
		}
	}
	s.pty.Restore()
	s.pty.Begin(false)
	close(s.frontGone)
}

// supervise performs the run, and sends its result to the front.
func (s *supervisor) supervise(p *processes) (status int, err error) {
	unheard := send(s.link, listening, 0)
	p.log = s.log
	l := p.newLoop(s.remembered)
	var r Run
	if unheard == nil && unix.Getppid() == s.Begin.Front {
		l.in.orphaned = s.frontGone
		r = l.start()
	} else { // nothing has started, and the front has ended or cannot receive messages
		l.handle(machine.Orphaned{})
		r = l.complete()
	}
	result := r.result()
	sent := send(s.link, raising, result.Raise) == nil && send(s.link, finished, result.Status) == nil
	if !sent || l.in.orphaned == nil { // otherwise the front does it
		registry.Remove(r.Socket)
		err = discard(s.ledger)
	}
	return result.Status, err
}
