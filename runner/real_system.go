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

// realSystem implements the interface system on the real operating system.
type realSystem struct {
	*tree.Tree
	listener  *listen.Listener
	inherited process.Inherited
	devNull   *os.File        // standard input of commands, and replacement of their outputs without a reader
	pty       terminal.Policy // --pty
	report    *report.File    // nil: the run writes no report
	log       *slog.Logger

	children       *process.Children
	guard          *process.Guard // nil: there is none
	startedByGuard map[int]int    // the processes that a lost guard had started: see started
	runStart       time.Duration  // time since boot at the beginning of the run; 0: this process has begun it

	// terminal is the controlling terminal. A shell suspends and continues graceful instead of the target. So graceful
	// suspends itself and continues together with the target.
	terminal *terminal.Terminal // nil: the run has none

	deferChoice Defer
	socket      int                  // socket for registrations; negative: none
	socketLock  int                  // see registry.Socket; negative: none, or only the guard holds the lock
	exits       chan procfs.Identity // see awaitExit
	pidfdSlots  chan struct{}        // contains one value for each pidfd of awaitExit

	priorityRaised bool             // raisePriority has raised the priority
	oldPriority    process.Priority // the priority from before raisePriority

	stopOn []int // signals that stop the run that this process will begin; nil: the default ones

	spareFDs []int         // open descriptors as a reserve until the target starts: see spareDescriptors
	relay    *notify.Relay // nil: the run has none

	parentGone <-chan struct{} // see watchParent; nil: no --die-with-parent
}

// prepare sets up this process for a run, or for Recover: containment, the starting of processes, signals and threads.
func prepare(config Config, log *slog.Logger) (*realSystem, error) {
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
	hearing, err := startListening()
	if err != nil {
		return nil, err
	}
	process.SettleThreads()
	return &realSystem{
		Tree: contained, listener: hearing.listener, inherited: hearing.inherited, devNull: devNull, log: log,
		socket: -1, socketLock: -1, children: children, deferChoice: config.Defer,
		exits: make(chan procfs.Identity), pidfdSlots: make(chan struct{}, maxPidfds()),
	}, nil
}

// listening contains the listener of this process, and the ignored and blocked signals that this process has inherited.
type listening struct {
	inherited process.Inherited
	listener  *listen.Listener
}

// startListening reads which signals were ignored and blocked when graceful was started, and begins to listen to
// signals. If a child can get its ignored signals only by inheritance (not process.SetsIgnored), the ignored signals
// stay ignored.
var startListening = sync.OnceValues(func() (hearing listening, err error) {
	hearing.inherited = process.ReadInherited()
	if hearing.listener, err = listen.Start(hearing.inherited.Ignored); err != nil {
		return hearing, err
	}
	process.Unblock(hearing.inherited.Blocked)
	hearing.listener.CatchAgain(hearing.inherited.Blocked)
	if process.SetsIgnored {
		hearing.listener.CatchIgnored()
	}
	return hearing, nil
})

// ListenEarly begins to listen to signals while the caller prepares a run. Starting to listen takes long, because the
// Go runtime passes each signal to another thread and back.
func ListenEarly() {
	if startPoller() == nil { // otherwise Do returns the error
		go startListening()
	}
}

// maxPidfds returns the maximum number of pidfds that awaitExit may use: a quarter of RLIMIT_NOFILE, and at most
// 65,536. The server of the socket uses at most another quarter. The run needs the rest, for example for files of
// /proc.
func maxPidfds() int {
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) != nil {
		return 0
	}
	return int(min(uint64(files.Cur)/4, 1<<16))
}

func (sys *realSystem) makeCgroup(r Run) error {
	if err := sys.MakeCgroup(r.Cgroup); err != nil {
		return fmt.Errorf("containment %s: %w", r.Config.Contain, err)
	}
	return nil
}

// newLoop returns a loop for the run rec, which is new, or which another process has begun.
func (sys *realSystem) newLoop(rec recordedRun) *loop {
	sys.Confine(rec.run.Cgroup)
	l := &loop{
		run: rec.run, began: rec.Began, sys: sys, log: sys.log, recorder: recorder{history: rec.history},
		announcer: newAnnouncer(), stopOn: rec.run.Config.StopOn,
		inputs: inputs{
			signals: sys.listener.Signals, children: sys.listener.Children,
			parentGone: sys.parentGone, broken: sys.pty.Broken(),
		},
	}
	if rec.ledger != nil { // a nil pointer would become an interface that is not nil
		l.recorder.ledger = rec.ledger
	}
	if rec.run.Target.Ended { // a killed process may have recorded the end without acting on it
		sys.targetEnded(rec.run)
	}
	if sys.socket >= 0 && rec.run.State != machine.Done {
		l.inputs.requests, l.inputs.exits = registry.Serve(sys.socket, procfs.StartOf).Calls, sys.exits
	}
	if rec.run.State >= machine.Cleaning { // the same is possible at the beginning of cleanup
		l.beginCleaning()
	}
	return l
}

// startTarget starts the target. Then, even if the start has failed, it closes the descriptors that only the target
// needs, and leaves the working directory if a path leads back there.
func (sys *realSystem) startTarget(r Run) (int, error) {
	env, inheritance := sys.withRelay(r.mark(r.Config.Env, r.StopTime())), process.Inheritance()
	s := process.Spec{
		Program: r.Config.Command[0], Search: process.SearchPath(env), Argv: r.Config.Command, Env: env,
		Ignored: sys.inherited.Ignored, Blocked: sys.inherited.Blocked, Cgroup: r.Cgroup,
		Foreground: sys.terminal.StartsInForeground(), OwnPID: unix.Getpid(),
	}
	if sys.pty.PTY != nil {
		s.Terminal = uintptr(sys.pty.Slave())
	}
	sys.pty.Begin(true)
	pid, err := sys.start(s, 0)
	if err == nil {
		sys.SetTarget(pid)
	}
	for _, fd := range inheritance {
		_ = unix.Close(fd) // the reader of an inherited pipe must not wait until graceful ends
	}
	if r.Dir != "" {
		_ = os.Chdir("/")
	}
	return pid, err
}

// ignoredInCommands returns the signals that commands, or a new graceful, ignore from their start: those that were
// ignored when graceful started. It omits SIGCHLD, because these processes wait for their children.
func (sys *realSystem) ignoredInCommands() []syscall.Signal {
	isChild := func(sig syscall.Signal) bool { return sig == unix.SIGCHLD }
	return slices.DeleteFunc(slices.Clone(sys.inherited.Ignored), isChild)
}

// startCommand starts a command. If an output has no reader, startCommand discards the data that the command writes to
// that output, and returns the output in discarded.
func (sys *realSystem) startCommand(r Run, c cleanup.Entry) (pid int, discarded cleanup.Outputs, err error) {
	args, env := c.Command.Args, sys.withRelay(commandEnv(r, c))
	ignored := sys.ignoredInCommands()
	if r.State >= machine.Cleaning {
		ignored = append(ignored, unix.SIGTTOU) // as graceful does: see prepareCleaning
	}
	null := sys.devNull.Fd()
	s := process.Spec{
		Program: args[0], Search: process.SearchPath(env), Argv: args, Env: env, Dir: cmp.Or(c.Dir, r.Dir),
		Stdin: null, Ignored: ignored, Blocked: sys.inherited.Blocked,
	}
	if discarded = deadOutputs(); discarded.Stdout {
		s.Stdout = null
	}
	if discarded.Stderr {
		s.Stderr = null
	}
	pid, err = sys.start(s, c.ID)
	return pid, discarded, err
}

func (sys *realSystem) signalGroup(sig syscall.Signal) error {
	return sys.pty.Signal(sig, sys.SignalGroup)
}
func (sys *realSystem) stopGroup(sig syscall.Signal) error { return sys.pty.Signal(sig, sys.StopGroup) }
func (sys *realSystem) signalTarget(sig syscall.Signal) error {
	return sys.pty.Signal(sig, sys.SignalLeader)
}
func (sys *realSystem) signalSurvivors(sigs ...syscall.Signal)    { sys.pty.SignalAll(sigs, sys.Signal) }
func (sys *realSystem) signalRest(sigs ...syscall.Signal)         { sys.pty.SignalAll(sigs, sys.SignalRest) }
func (sys *realSystem) signalCommand(pid int, sig syscall.Signal) { _ = tree.SignalGroupOf(pid, sig) }
func (sys *realSystem) prepareCleaning()                          { sys.listener.IgnoreTTOU() }

// raisePriority raises the priority of this process. Without a guard it does nothing, because started processes would
// inherit the priority.
func (sys *realSystem) raisePriority() {
	if sys.guard != nil && !sys.priorityRaised {
		sys.priorityRaised, sys.oldPriority = true, process.RaisePriority()
	}
}

// setTarget sets the target of the tree to the recorded target, which another process of graceful has started. It does
// nothing if no target is recorded, or after cleanup has begun.
func (sys *realSystem) setTarget(r Run) {
	if r.Target.PID == 0 || r.State >= machine.Cleaning {
		return
	}
	sys.SetTarget(r.Target.PID)
	if r.Target.Ended { // the target may be reaped already
		sys.NoteReaped(r.Target.PID)
	}
}

func (sys *realSystem) isOtherCommand(c procfs.Process, id int) bool {
	found, known := sys.Environ(c.PID, hookID)
	return known && found != strconv.Itoa(id)
}

// isCommand reports whether a process belongs to the cleanup command id. Before its execve(2), a process does not have
// the environment of the command, so isCommand waits for the execve(2), at most lockPatience.
//
// A zombie has no environment, and a short command may already be a zombie. isCommand assumes that a zombie that led
// its group is the command, because skipping a command is better than running it twice.
func (sys *realSystem) isCommand(c procfs.Process, id int) bool {
	for late := time.Now().Add(lockPatience); ; time.Sleep(time.Millisecond) {
		found, known := sys.Environ(c.PID, hookID)
		if known || !sys.RunsOwnExecutable(c.PID) || time.Now().After(late) {
			return known && found == strconv.Itoa(id) || !known && sys.DiedAsLeader(c.PID)
		}
	}
}
