package runner

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/registry"
	"graceful/forward/listen"
	"graceful/runner/machine"
	"graceful/runner/notify"
	"graceful/runner/process"
	"graceful/runner/procfs"
	"graceful/runner/report"
	"graceful/runner/terminal"
	"graceful/runner/tree"
)

// processes implements the interface system on the real operating system.
type processes struct {
	*tree.Tree
	listener *listen.Listener
	inherit  process.Inherited
	devNull  *os.File        // standard input of cleanup commands, and replacement of an output without a reader
	pty      terminal.Policy // --pty
	report   *report.File    // nil: the run writes no report
	log      *slog.Logger

	children       *process.Children
	guard          *process.Guard // nil: there is none
	startedByGuard map[int]int    // the processes that a lost guard had started: see started
	since          time.Duration  // time since boot at the beginning of the run; 0: this process has begun it

	// terminal is the controlling terminal. A shell suspends and continues graceful instead of the target. So graceful
	// suspends itself and continues together with the target.
	terminal *terminal.Terminal // nil: the run has none

	deferring  Defer
	socket     int                  // socket for registrations; negative: none
	socketLock int                  // see registry.Socket; negative: none, or only the guard holds the lock
	exits      chan procfs.Identity // see awaitExit
	pidfds     chan struct{}        // contains one value for each pidfd of awaitExit

	raised   bool             // raisePriority has raised the priority
	priority process.Priority // the priority before that

	stopOn []int // signals that stop the run that this process will begin; nil: the default ones

	spare []int         // open descriptors as a reserve until the target starts: see spareDescriptors
	relay *notify.Relay // nil: the run has none

	parentGone <-chan struct{} // see watchParent; nil: no --die-with-parent
}

// prepare sets up the process for a run. It acquires every resource that the run needs later, including threads.
func prepare(config Config, log *slog.Logger) (*processes, error) {
	devNull, err := process.OpenNull()
	if err != nil {
		return nil, fmt.Errorf("standard input for cleanup commands: %w", err)
	}
	contained, warnings, err := tree.Open(config.Contain)
	if err != nil {
		return nil, fmt.Errorf("containment %s: %w", config.Contain, err)
	}
	for _, w := range warnings {
		log.Warn("containment is limited", "level", string(contained.Level()), "err", w)
	}
	children, err := process.OpenChildren()
	if err != nil {
		return nil, err
	}
	process.DropSentFaults()
	h, err := hear()
	if err != nil {
		return nil, err
	}
	process.SettleThreads()
	return &processes{
		Tree: contained, listener: h.listener, inherit: h.inherited, devNull: devNull, log: log, socket: -1, socketLock: -1,
		children: children, deferring: config.Defer,
		exits: make(chan procfs.Identity), pidfds: make(chan struct{}, maxPidfds()),
	}, nil
}

// hearing contains the listener of this process, and the signal dispositions that this process has inherited.
type hearing struct {
	inherited process.Inherited
	listener  *listen.Listener
}

// hear reads which signals were ignored and blocked when graceful was started, and begins to listen to all signals.
var hear = sync.OnceValues(func() (h hearing, err error) {
	h.inherited = process.ReadInherited()
	if h.listener, err = listen.Start(h.inherited.Ignored); err != nil {
		return h, err
	}
	process.Unblock(h.inherited.Blocked)
	h.listener.CatchAgain(h.inherited.Blocked)
	if process.SetsIgnored {
		h.listener.Hear()
	}
	return h, nil
})

// ListenEarly begins to listen to signals while the caller prepares a run. Starting to listen takes long, because the
// Go runtime passes each signal to another thread and back.
func ListenEarly() {
	if startPoller() == nil { // otherwise Do returns the error
		go hear()
	}
}

// maxPidfds returns a quarter of RLIMIT_NOFILE. The server of the socket uses at most another quarter. The run needs
// the rest, for example for files of /proc.
func maxPidfds() int {
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) != nil {
		return 0
	}
	return int(min(uint64(files.Cur)/4, 1<<16))
}

func (p *processes) makeCgroup(r Run) error {
	if err := p.MakeCgroup(r.Cgroup); err != nil {
		return fmt.Errorf("containment %s: %w", r.Config.Contain, err)
	}
	return nil
}

// newLoop returns a loop that resumes the run m.
func (p *processes) newLoop(m remembered) *loop {
	p.Confine(m.run.Cgroup)
	l := &loop{
		run: m.run, began: m.Began, sys: p, log: p.log, record: recorder{history: m.history}, says: newAnnouncer(),
		stopOn: m.run.Config.StopOn,
		in: inputs{
			signals: p.listener.Signals, children: p.listener.Children,
			parentGone: p.parentGone, broken: p.pty.Broken(),
		},
	}
	if m.ledger != nil { // a nil pointer would become an interface that is not nil
		l.record.ledger = m.ledger
	}
	if m.run.Target.Ended { // a killed process may have recorded this without acting on it
		p.targetEnded(m.run)
	}
	if p.socket >= 0 && m.run.State != machine.Done {
		l.in.requests, l.in.exits = registry.Serve(p.socket, procfs.StartOf).Calls, p.exits
	}
	if m.run.State >= machine.Cleaning { // as above
		l.beginCleaning()
	}
	return l
}

// startTarget starts the target. Then it closes the descriptors that only the target needs, and leaves the working
// directory.
func (p *processes) startTarget(r Run) (int, error) {
	env, inheritance := p.withRelay(r.mark(r.Config.Env, r.StopTime())), process.Inheritance()
	s := process.Spec{
		Program: r.Config.Command[0], Search: process.SearchPath(env), Argv: r.Config.Command, Env: env,
		Ignored: p.inherit.Ignored, Blocked: p.inherit.Blocked, Cgroup: r.Cgroup,
		Foreground: p.terminal.StartsInForeground(), PIDOfOurs: unix.Getpid(),
	}
	if p.pty.PTY != nil {
		s.Terminal = uintptr(p.pty.Slave())
	}
	p.pty.Begin(true)
	pid, err := p.start(s, 0)
	if err == nil {
		p.Started(pid)
	}
	for _, fd := range inheritance {
		_ = unix.Close(fd) // a reader of a pipe must not wait until graceful closes it
	}
	if r.Dir != "" {
		_ = os.Chdir("/")
	}
	return pid, err
}

// ignoredByParents returns the signals that a process should ignore. It omits SIGCHLD, because the process waits for
// its children.
func (p *processes) ignoredByParents() []syscall.Signal {
	return slices.DeleteFunc(slices.Clone(p.inherit.Ignored), func(sig syscall.Signal) bool { return sig == unix.SIGCHLD })
}

// startCommand starts a cleanup command. If an output has no reader, startCommand discards the data that the command
// writes to it.
func (p *processes) startCommand(r Run, c cleanup.Entry) (pid int, discarded cleanup.Outputs, err error) {
	args, env := c.Command.Args, p.withRelay(commandEnv(r, c))
	ignored := p.ignoredByParents()
	if r.State >= machine.Cleaning {
		ignored = append(ignored, unix.SIGTTOU) // as graceful does: see cleaning
	}
	null := p.devNull.Fd()
	s := process.Spec{
		Program: args[0], Search: process.SearchPath(env), Argv: args, Env: env, Dir: cmp.Or(c.Dir, r.Dir),
		Stdin: null, Ignored: ignored, Blocked: p.inherit.Blocked,
	}
	if discarded = deadOutputs(); discarded.Stdout {
		s.Stdout = null
	}
	if discarded.Stderr {
		s.Stderr = null
	}
	pid, err = p.start(s, c.ID)
	return pid, discarded, err
}

func (p *processes) signalGroup(sig syscall.Signal) error      { return p.pty.Signal(sig, p.SignalGroup) }
func (p *processes) stopGroup(sig syscall.Signal) error        { return p.pty.Signal(sig, p.StopGroup) }
func (p *processes) signalTarget(sig syscall.Signal) error     { return p.pty.Signal(sig, p.SignalLeader) }
func (p *processes) signalSurvivors(sigs ...syscall.Signal)    { p.pty.SignalAll(sigs, p.Signal) }
func (p *processes) signalRest(sigs ...syscall.Signal)         { p.pty.SignalAll(sigs, p.SignalRest) }
func (p *processes) signalCommand(pid int, sig syscall.Signal) { _ = tree.SignalGroupOf(pid, sig) }
func (p *processes) cleaning()                                 { p.listener.IgnoreTTOU() }

// raisePriority raises the priority of this process. Without a guard it does nothing, because started processes would
// inherit the priority.
func (p *processes) raisePriority() {
	if p.guard != nil && !p.raised {
		p.raised, p.priority = true, process.RaisePriority()
	}
}

// setTarget sets the target of the tree to a process that another process of graceful started.
func (p *processes) setTarget(r Run) {
	if r.Target.PID == 0 || r.State >= machine.Cleaning {
		return
	}
	p.Started(r.Target.PID)
	if r.Target.Ended { // it may be reaped already
		p.Reaped(r.Target.PID)
	}
}

func (p *processes) isOtherCommand(c procfs.Process, id int) bool {
	found, known := p.Environ(c.PID, hookID)
	return known && found != strconv.Itoa(id)
}

// isCommand reports whether a process belongs to the cleanup command id. Before its execve(2), a process does not have
// the environment of the command, so isCommand waits for the execve(2).
//
// A zombie has no environment, and a short command may already be a zombie. isCommand assumes that a zombie that led
// its group is the command, because skipping a command is better than running it twice.
func (p *processes) isCommand(c procfs.Process, id int) bool {
	for late := time.Now().Add(lockPatience); ; time.Sleep(time.Millisecond) {
		found, known := p.Environ(c.PID, hookID)
		if known || !p.RunsUs(c.PID) || time.Now().After(late) {
			return known && found == strconv.Itoa(id) || !known && p.DiedLeading(c.PID)
		}
	}
}
