package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/forward"
	"graceful/runner/report"
	"graceful/runner/terminal"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// The guard is a second process of ours. The user starts the front; the front starts the supervisor, which does all the
// work, and hands signals on to it. Both are subreapers, so that when the supervisor is killed the whole tree becomes
// the front's, which goes on from the ledger; when the front is killed, a socket that it alone held closes, and the
// supervisor stops the run.

// Guard says whether a run has one.
type Guard string

// The guards. Auto is on, except as PID 1: when that is killed, the kernel kills everybody else.
const (
	GuardAuto Guard = "auto"
	GuardOn   Guard = "on"
	GuardOff  Guard = "off"
)

// Guards lists them, the default first.
func Guards() []Guard { return []Guard{GuardAuto, GuardOn, GuardOff} }

func (g Guard) wanted() bool { return g == GuardOn || g == GuardAuto && unix.Getpid() != 1 }

// SupervisorName is the argv[0] by which this program knows that it is to be the supervisor.
const SupervisorName = "graceful: supervising"

const selfExe = "/proc/self/exe" // ourselves, also when the file has been replaced meanwhile

// startSupervisor starts the supervisor. link is our end of a pair of sockets: it is closed by our own end, which tells
// the supervisor of that, and so nothing else must hold it; from it come the messages below.
func (p *processes) startSupervisor(r Run, book *ledger.Ledger) (pid, link int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("a pair of sockets: %w", err)
	}
	for _, fd := range pair {
		unix.CloseOnExec(fd)
	}
	defer unix.Close(pair[1])
	terminal, fds := p.own.pty.Inheritance()
	destination, more := p.report.Inheritance()
	s := start{
		path: selfExe,
		argv: []string{SupervisorName, r.Config.Name, strconv.Itoa(book.FD()), strconv.Itoa(pair[1]), book.Path(),
			strconv.Itoa(p.socket), terminal, destination},
		env:     supervisorEnv(os.Environ()),
		keep:    slices.Concat(fds, more, []int{book.FD(), pair[1]}),
		blocked: p.inherit.blocked,
	}
	if p.socket >= 0 {
		s.keep = append(s.keep, p.socket)
	}
	if pid, err = p.fork(s); err != nil {
		unix.Close(pair[0])
		return 0, 0, fmt.Errorf("starting the supervisor: %w", err)
	}
	p.supervisor = pid
	return pid, pair[0], nil
}

// supervisorEnv is the supervisor's own environment: nothing in it tells a CI runner that hunts what a job has left
// behind that the supervisor is part of that. The target's environment is in the ledger.
func supervisorEnv(environ []string) (env []string) {
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(runtimeVariables, name) {
			env = append(env, kv)
		}
	}
	return env
}

// runtimeVariables are for the Go runtime and library, and for the tests.
var runtimeVariables = []string{"GODEBUG", "GOTRACEBACK", "GOCOVERDIR", "GORACE", "TZ"}

// guarded leads a run through a supervisor, and in its place should it be killed. Without a ledger it makes one in
// memory. An error means that nothing has been started.
func (p *processes) guarded(r Run, book *ledger.Ledger, log *slog.Logger) (result Result, err error) {
	if err := tree.AdoptOrphans(); err != nil {
		return result, err
	}
	if err := unix.Access(selfExe, unix.X_OK); err != nil {
		return result, fmt.Errorf("%s: %w", selfExe, err)
	}
	if book == nil {
		if book, err = ledger.InMemory(); err != nil {
			return result, err
		}
		if err := begin(book, r, p.inherit); err != nil {
			return result, errors.Join(err, book.Close())
		}
	}
	pid, link, err := p.startSupervisor(r, book)
	if err != nil {
		return result, err
	}
	p.listener.Hear()
	how, result, done := p.watch(pid, link, log)
	if done {
		reap(pid)
		return result, nil
	}
	var m remembered
	if err := persist(func() (err error) { m, err = read(book); return err }); err != nil {
		log.Error("no cleanup command is run", "err", err)
		r.Cleanup = cleanup.Stack{} // the tree at least is ended
		dir, _ := os.Getwd()
		m, book = remembered{run: r, history: newHistory(r, unix.Getpid(), dir, time.Now())}, nil
	}
	reap(pid)
	m.history.goOn()
	if m.run.State == Done {
		return p.loop(m, book, log).loop().result(), nil // for what was to come after
	}
	if r.Config.Guard == GuardAuto && m.run.State == Starting && book != nil && len(p.tree.Children()) == 0 {
		p.supervisor = 0
		return result, fmt.Errorf("the supervisor, before it had started anything, was %s", endingText(how))
	}
	l := p.loop(m, book, log)
	log.Warn("going on in the supervisor's place", "err", "it was "+endingText(how))
	l.takeOver(m)
	l.handle(orphaned{})
	return l.loop().result(), nil
}

// What the supervisor tells the front, and a value with it. The front tells nothing but that it has relayed.
type message struct{ kind, value byte }

const (
	listening   byte = iota // to signals: before, most would kill it
	stopping                // the run stops (job control), and the front shall, by that signal, alone by 0
	raising                 // the signal by which the front is to end
	finished                // the run is done; its exit status
	relayOutput             // relay what is left of the target's output; whether a stop has begun
	hasRelayed              // so
)

// watch hands signals on to the supervisor until it has ended, and tells how, and its run's result if it has said that
// the run is done.
func (p *processes) watch(pid, link int, log *slog.Logger) (how Ending, result Result, done bool) {
	messages := make(chan message)
	go func() {
		defer close(messages)
		for {
			m, ok := receive(link)
			if !ok {
				return
			}
			messages <- m
		}
	}()
	var signals <-chan syscall.Signal
	var parentGone, relayed <-chan struct{}
	broken := p.own.pty.Broken()
	stops := false
	take := func(m message, open bool) {
		switch {
		case !open:
			messages = nil
		case m.kind == listening:
			signals, parentGone = p.listener.Signals, p.parentGone
			p.own.pty.Begin(true)
		case m.kind == stopping:
			p.stopUnlessContinued(pid, link, syscall.Signal(m.value))
		case m.kind == relayOutput:
			relayed = p.own.relay(stops || m.value != 0)
		case m.kind == raising:
			result.Raise = int(m.value)
		case m.kind == finished:
			result.Status, done = int(m.value), true
		}
	}
	for !p.reapOthers(pid) {
		select {
		case m, open := <-messages:
			take(m, open)
		case sig := <-signals:
			if stops = stops || forward.MeaningOf(sig) == forward.Stop; sig == unix.SIGCONT {
				p.jobs.terminal.Resumed()
			}
			p.own.pty.Heard(sig)
			handOn(pid, link, sig)
		case <-parentGone:
			parentGone = nil
			if !stops { // who has told us to stop may well go
				log.Warn("stopping the run", "err", parentEnded)
				handOn(pid, link, unix.SIGTERM)
			}
		case <-broken:
			broken = nil
			handOn(pid, link, unix.SIGHUP)
		case <-relayed:
			relayed = nil
			_ = send(link, hasRelayed, 0)
		case <-p.listener.Children:
		}
	}
	for messages != nil {
		m, open := <-messages
		take(m, open)
	}
	how, _ = peekAt(pid)
	return how, result, done
}

// stopUnlessContinued stops us, but not when a SIGCONT has come meanwhile: it would be heard only when somebody sent
// another.
func (p *processes) stopUnlessContinued(pid, link int, by syscall.Signal) {
	for {
		select {
		case sig := <-p.listener.Signals:
			p.own.pty.Heard(sig)
			handOn(pid, link, sig)
			if sig == unix.SIGCONT {
				return
			}
		default:
			p.own.pty.Pause()
			p.jobs.stopUs(by)
			return
		}
	}
}

// reapOthers reaps who has come to us as init or as subreaper and is none of the supervisor's, and tells whether that
// has ended itself: then its children are ours, and wait to be taken over.
func (p *processes) reapOthers(supervisor int) (ended bool) {
	for {
		if _, ended := peekAt(supervisor); ended {
			return true
		}
		pid, _, _ := peek()
		if pid == 0 || pid == supervisor || p.tree.Ending(supervisor) {
			_, ended := peekAt(supervisor)
			return ended
		}
		p.reap(pid)
	}
}

// handOn gives a signal to the supervisor, which has not been reaped, so that the id is its own. A stop that cannot be
// handed on is made one by seeming to be dead.
func handOn(pid, link int, sig syscall.Signal) {
	if persist(func() error { return unix.Kill(pid, sig) }) != nil && forward.MeaningOf(sig) == forward.Stop {
		_ = unix.Shutdown(link, unix.SHUT_RDWR)
	}
}

// persist tries thrice what has no reason to fail.
func persist(try func() error) (err error) {
	for range 3 {
		if err = try(); err == nil {
			return nil
		}
	}
	return err
}

// receive waits for a message, or for the other end to be closed.
func receive(link int) (m message, ok bool) {
	var buffer [2]byte
	for have := 0; have < len(buffer); {
		n, err := unix.Read(link, buffer[have:])
		switch {
		case err == unix.EINTR:
		case err != nil || n == 0:
			return m, false
		default:
			have += n
		}
	}
	return message{buffer[0], buffer[1]}, true
}

func send(link int, kind byte, value int) error {
	return persist(func() error { _, err := unix.Write(link, []byte{kind, byte(value)}); return err })
}

// Supervise is the supervisor; args are ours after argv[0]. It returns the exit status, which the front alone sees.
func Supervise(args []string, logger func(Config, time.Time) *slog.Logger) (int, error) {
	if len(args) != 7 {
		return statusFailed, errors.New("this is for graceful itself to call")
	}
	bookFD, err1 := strconv.Atoi(args[1])
	link, err2 := strconv.Atoi(args[2])
	socket, err3 := strconv.Atoi(args[4])
	if err := errors.Join(err1, err2, err3); err != nil {
		return statusFailed, err
	}
	unix.CloseOnExec(link)
	if socket >= 0 {
		unix.CloseOnExec(socket)
	}
	book, err := ledger.Inherited(bookFD, args[3])
	if err != nil {
		return statusFailed, err
	}
	m, err := read(book)
	if err != nil {
		return statusFailed, err
	}
	_ = os.WriteFile("/proc/self/comm", []byte("graceful"), 0) // and not "exe", for those who look for us by name
	log := logger(m.run.Config, m.began)
	if err := tree.AdoptOrphans(); err != nil {
		return statusFailed, err
	}
	own, err := terminal.InheritPTY(args[5], m.front, log)
	if err != nil {
		return statusFailed, err
	}
	destination, err := report.Inherit(args[6], m.run.Config.Report)
	if err != nil {
		return statusFailed, err
	}
	gone, relayed := make(chan struct{}), make(chan struct{})
	go func() {
		for told := false; ; told = true {
			if _, ok := receive(link); !ok {
				own.Restore()
				own.Begin(false)
				close(gone)
				return
			}
			if !told {
				close(relayed)
			}
		}
	}()
	p, err := prepare(m.run.Config, m.inherit, slog.New(slog.DiscardHandler)) // the front has said it all
	if err != nil {
		return statusFailed, err
	}
	p.front, p.supervisor, p.link, p.socket, p.report = m.front, unix.Getpid(), link, socket, destination
	if group, err := unix.Getpgid(m.front); err == nil && !m.run.Config.PTY {
		p.jobs.open(group)
	}
	p.own = newRelaying(own, m.run.Config)
	p.own.elsewhere = func(stopped int) bool { return send(link, relayOutput, stopped) == nil }
	p.own.relayed, p.own.gone = relayed, gone
	if err := p.makeCgroup(m.run); err != nil { // the run is over before it has begun, and we have said why
		if send(link, finished, statusFailed) != nil {
			registry.Remove(m.run.Socket)
			err = errors.Join(err, discard(book))
		}
		return statusFailed, err
	}
	heard := send(link, listening, 0)
	l := p.loop(m, book, log)
	var r Run
	if heard == nil && unix.Getppid() == m.front {
		l.orphaned = gone
		r = l.do()
	} else { // nothing has been started, and the front is gone, or waits in vain
		l.handle(orphaned{})
		r = l.loop()
	}
	result := r.result()
	said := send(link, raising, result.Raise)
	if said == nil {
		said = send(link, finished, result.Status)
	}
	if said != nil || l.orphaned == nil { // nobody else does it
		registry.Remove(r.Socket)
		err = discard(book)
	}
	return result.Status, err
}
