package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/forward"
	"graceful/runner/report"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// ErrSetup is what Do's errors are: nothing could be set up, and nothing has been started.
var ErrSetup = errors.New("setting up the run")

// Result is what graceful is to end with.
type Result struct {
	Status int // exit status
	Raise  int // the signal to end by instead, or 0
}

func (r Run) result() Result { return Result{r.Status(), r.Raise()} }

// Do leads a run from start to exit and returns what it came to. Whatever it has to say goes to the log.
// An error (ErrSetup) means that nothing was started; afterwards every failure is part of the run.
//
// It takes over the process: its signals, its children, its scheduling. There is one run in a process.
func Do(config Config, log *slog.Logger) (Result, error) {
	r, err := do(config, log)
	if err != nil {
		return Result{Status: statusFailed}, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	return r, nil
}

func do(config Config, log *slog.Logger) (Result, error) {
	if n := len(config.OnExit) + len(config.OnStop); n > maxCommands {
		return Result{}, fmt.Errorf("%w: %d commands were given, and %d are the most", errTooLarge, n, maxCommands)
	}
	if err := checkCommands(slices.Concat(config.OnExit, config.OnStop)); err != nil {
		return Result{}, err
	}
	destination, err := openReport(&config)
	if err != nil {
		return Result{}, err
	}
	defer destination.Close()
	r := newRun(newID(), config)
	if config.Contain == tree.Cgroup {
		if r.Cgroup, err = tree.FindCgroup("graceful-" + r.ID); err != nil {
			return Result{}, fmt.Errorf("containment %s: %w", config.Contain, err)
		}
	}
	parentGone, ended, err := openParent(config, log)
	if err != nil {
		return Result{}, err
	}
	if ended {
		return stoppedBy(unix.SIGTERM, config), nil
	}
	own, err := openPTY(config, log)
	if err != nil {
		return Result{}, err
	}
	defer own.Restore()
	p, err := prepare(config, readInherited(), log)
	if err != nil {
		return Result{}, err
	}
	p.parentGone, p.report = parentGone, destination
	if !config.PTY {
		p.jobs.open(unix.Getpgrp())
	}
	book, stopped, err := p.openBook(config, log)
	if err != nil {
		return Result{}, err
	}
	if stopped != 0 {
		return stoppedBy(stopped, config), nil
	}
	if config.Defer != DeferOff {
		p.socket, r.Socket, err = registry.Listen(r.ID)
	}
	if err != nil {
		log.Warn("no cleanup command can be registered from within the run", "err", err)
	}
	defer registry.Remove(r.Socket)
	if book != nil {
		if err := begin(book, r, p.inherit); err != nil {
			return Result{}, errors.Join(err, discard(book))
		}
	}
	p.own = newRelaying(own, config) // and of no run of that name that had to be finished first
	result, err := p.lead(r, book, log)
	if err != nil {
		return Result{}, errors.Join(err, discard(book))
	}
	p.own.deliver(p.listener.Signals)
	if err := discard(book); err != nil {
		log.Warn("the run is done, but", "err", err)
	}
	return result, nil
}

// openReport opens the destination of the report, before anything of the run can change what its path leads to. The
// ledger gets the path without links: recover follows none.
func openReport(config *Config) (*report.File, error) {
	if config.Report == "" {
		return nil, nil
	}
	destination, err := report.Open(config.Report)
	if err != nil {
		return nil, fmt.Errorf("--report %s: %w", config.Report, err)
	}
	config.Report = destination.Path()
	return destination, nil
}

// openParent opens the process that started us, where its death is to stop the run. ended reports whether it is dead
// already, and has logged so.
func openParent(config Config, log *slog.Logger) (gone <-chan struct{}, ended bool, err error) {
	if !config.DieWithParent {
		return nil, false, nil
	}
	gone, ended, err = watchParent(config)
	if err == nil && ended {
		hint := "or it is PID 1, whose end nobody outlives: leave --die-with-parent out"
		if config.Parent != 0 {
			hint = fmt.Sprintf("our parent is process %d, and not %d", unix.Getppid(), config.Parent)
		}
		log.Warn("starting nothing", "err", parentEnded, "hint", hint)
	}
	return gone, ended, err
}

// stoppedBy is what comes of a run that a stop signal has kept from starting anything.
func stoppedBy(sig syscall.Signal, c Config) Result {
	return Run{Config: c, Ended: true, Ending: Ending{Signal: int(sig)}}.result()
}

// lead leads the run, with a guard if there is to be one and can be.
func (p *processes) lead(r Run, book *ledger.Ledger, log *slog.Logger) (Result, error) {
	if g := r.Config.Guard; g.wanted() {
		done, err := p.guarded(r, book, log)
		if err == nil {
			return done, nil
		}
		if errors.Is(err, errTooLarge) {
			return Result{}, err
		}
		if g == GuardOn {
			return Result{}, fmt.Errorf("guard: %w", err)
		}
		log.Warn("there is no guard", "err", err, "hint", "if graceful itself is killed, nothing is cleaned up")
	}
	if err := p.makeCgroup(r); err != nil {
		return Result{}, err
	}
	now := time.Now()
	dir, _ := os.Getwd()
	m := remembered{run: r, began: now, history: newHistory(r, unix.Getpid(), dir, now)}
	return p.loop(m, book, log).do().result(), nil
}

// newRun is a run at its beginning.
func newRun(id string, config Config) Run {
	r := Run{ID: id, Config: config, Cleanup: cleanup.Stack{Order: config.Order}}
	for _, c := range config.OnExit {
		r.Cleanup = r.Cleanup.Push(cleanup.AtExit, c)
	}
	for _, c := range config.OnStop {
		r.Cleanup = r.Cleanup.Push(cleanup.AtStop, c)
	}
	return r
}

// prepare takes over the process. What it needs later it has then, threads too.
func prepare(config Config, inherit inherited, log *slog.Logger) (*processes, error) {
	devNull, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		// A file system as bare as that gives its cleanup commands an empty pipe to read.
		if devNull, err = emptyInput(); err != nil {
			return nil, fmt.Errorf("standard input for cleanup commands: %w", err)
		}
	}
	contained, warnings, err := tree.Open(config.Contain)
	if err != nil {
		return nil, fmt.Errorf("containment %s: %w", config.Contain, err)
	}
	for _, w := range warnings {
		log.Warn("containment is "+string(contained.Level()), "err", w)
	}
	listener := forward.Listen(inherit.ignored)
	settleThreads()
	return &processes{
		tree: contained, listener: listener, inherit: inherit, devNull: devNull, socket: -1, deferring: config.Defer,
		exits: make(chan tree.Identity), pidfds: make(chan struct{}, maxPidfds()),
	}, nil
}

// maxPidfds is a quarter of the descriptors that we may have. The server of the socket takes as many at the most, and the
// run needs some itself: without a pipe nothing can be started, and without a file of /proc nobody be found.
func maxPidfds() int {
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) != nil {
		return 0
	}
	return int(min(uint64(files.Cur)/4, 1<<16))
}

func (p *processes) makeCgroup(r Run) error {
	if err := p.tree.MakeCgroup(r.Cgroup); err != nil {
		return fmt.Errorf("containment %s: %w", r.Config.Contain, err)
	}
	return nil
}

// loop makes the loop that leads a run from where it is remembered to stand.
func (p *processes) loop(m remembered, book *ledger.Ledger, log *slog.Logger) *loop {
	p.tree.Confine(m.run.Cgroup)
	l := &loop{
		run: m.run, began: m.began, history: m.history, sys: p, log: log,
		signals: p.listener.Signals, children: p.listener.Children, parentGone: p.parentGone, broken: p.own.pty.Broken(),
	}
	if book != nil { // else the interface would not be nil
		l.ledger = book
	}
	if m.run.Ended { // whoever led it may not have come to that
		p.targetGone(m.run)
	}
	if p.socket >= 0 && m.run.State != Done {
		l.requests, l.exits = registry.Serve(p.socket, StartOf).Calls, p.exits
	}
	if m.run.State >= Cleaning { // nor to that
		p.cleaning()
		l.disband()
	}
	return l
}

// checkCommands refuses what could not run later.
func checkCommands(commands []cleanup.Command) error {
	for _, c := range commands {
		if !c.NeedsShell() {
			continue
		}
		if err := haveShell(); err != nil {
			return fmt.Errorf(`command %q needs %s: %w (without a shell use the exec form: ["./flush", "--all"])`,
				c.Text, cleanup.Shell, err)
		}
	}
	return nil
}

func haveShell() error { return unix.Access(cleanup.Shell, unix.X_OK) }

// emptyInput returns a pipe's end at which nothing will ever arrive but end of file.
func emptyInput() (*os.File, error) {
	r, w, err := os.Pipe()
	if err == nil {
		err = w.Close()
	}
	return r, err
}

// newID returns 32 hexadecimal digits. They tell runs apart; they are no secret.
func newID() string { return fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()) }

// startFailure gives the exit status for an error in starting the target, as env(1) and the shells have it, and
// a hint where the error alone would mislead.
func startFailure(command string, err error) (status int, hint string) {
	path := command
	var found *fs.PathError // by way of PATH
	if errors.As(err, &found) {
		path = found.Path
	}
	exists := strings.Contains(path, "/") && unix.Access(path, unix.F_OK) == nil
	switch {
	case errors.Is(err, errCgroup):
		return statusFailed, "it was not executed"
	case outOfResources(err):
		return 125, "out of processes, memory or descriptors: see ulimit -a and the container's limits"
	case errors.Is(err, unix.ENOENT) && exists:
		return 126, "it is there, but the interpreter in its first line, or its dynamic loader, is not"
	case errors.Is(err, unix.ENOENT) && !strings.Contains(command, "/"):
		return 127, "no directory in PATH has it"
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return 127, ""
	case errors.Is(err, unix.ENOEXEC):
		return 126, "a script needs a #! line; a binary must be for this kind of machine"
	case errors.Is(err, unix.E2BIG):
		return 126, "arguments and environment together are too long"
	}
	return 126, ""
}

// outOfResources tells whether trying again later may help.
func outOfResources(err error) bool {
	for _, e := range []error{unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
