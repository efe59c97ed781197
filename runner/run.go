package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/notify"
	"graceful/runner/report"
	"graceful/runner/terminal"
	"graceful/runner/tree"
)

// Run is the state of a run with its configuration. The machine changes the embedded part.
type Run struct {
	machine.Run
	ID     string
	Config Config
	Cgroup string // directory of the cgroup that the target runs in; "": none
	Socket string // address for registrations; "": none
	Dir    string // working directory of commands; "": graceful's
}

// newRun returns a run whose target is not started.
func newRun(id string, config Config) Run {
	return Run{Run: machine.New(config.Policy, config.OnExit, config.OnStop), ID: id, Config: config}
}

// NewID returns an id for a run: 32 hexadecimal digits. It identifies a run and is not secret.
func NewID() string { return fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()) }

// advanced returns the run after an event, and the actions that the event causes.
func (r Run) advanced(e machine.Event, now time.Time) (_ Run, actions []machine.Action) {
	r.Run, actions = machine.Advance(r.Run, e, now)
	return r, actions
}

// Result describes how graceful ends after a run.
type Result struct {
	Status       int // exit status
	RaisedSignal int // signal by which graceful ends instead; 0: none
}

func (r Run) result() Result { return Result{r.Status(), r.RaisedSignal()} }

// stoppedBy returns the result of a run that the stop signal sig ended before the target was started.
func stoppedBy(sig syscall.Signal, c Config) Result {
	r := newRun("", c)
	r.Target.Ended, r.Target.Ending = true, machine.Ending{Signal: int(sig)}
	return r.result()
}

// ErrSetup means that the setup in Do or Recover has failed. The error also wraps the cause. Do has not started the
// target, and Recover has finished no run.
var ErrSetup = errors.New("setting up the run")

// Do performs a run from start to exit, and returns its result. It logs messages to log. An error (ErrSetup) means that
// the target was not started. After the start of the target, failures are part of the result.
//
// Do controls the signals, the children and the threads of the process. A process performs only one run.
func Do(config Config, log *slog.Logger) (Result, error) {
	r, err := do(config, log)
	if err != nil {
		return Result{Status: machine.StatusFailed}, fmt.Errorf("%w: %w%s", ErrSetup, err, hintAtLimit(err))
	}
	return r, nil
}

func do(config Config, log *slog.Logger) (Result, error) {
	if err := startPoller(); err != nil {
		return Result{}, err
	}
	if err := checkCommands(slices.Concat(config.OnExit, config.OnStop)); err != nil {
		return Result{}, err
	}
	destination, err := openReport(&config)
	if err != nil {
		return Result{}, err
	}
	defer destination.Close()
	config.UnstartedDelayed = true
	r := newRun(NewID(), config)
	if err := r.checkSizes(); err != nil {
		return Result{}, err
	}
	r.Dir = workingDir()
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
	var pty *terminal.PTY
	if config.PTY {
		if pty, err = terminal.OpenPTY(log); err != nil {
			return Result{}, err
		}
		defer pty.Restore()
	}
	sys, err := prepare(config, log)
	if err != nil {
		return Result{}, err
	}
	if sys.spareFDs, err = spareDescriptors(); err != nil {
		return Result{}, err
	}
	sys.parentGone, sys.report = parentGone, destination
	config.StopOn = sys.stopsOn(config)
	sys.stopOn = config.StopOn
	r.Config.StopOn, r.Policy.StopOn = config.StopOn, config.StopOn
	if !config.PTY {
		sys.terminal = terminal.Open(unix.Getpgrp())
	}
	runLedger, stopped, err := sys.openLedger(config)
	if err != nil {
		return Result{}, err
	}
	if stopped != 0 {
		return stoppedBy(stopped, config), nil
	}
	sys.pty = newPolicy(pty, config) // after openLedger, which may finish a dead run: that run must not use this pty
	return sys.performRun(r, runLedger)
}

// performRun opens the sockets of the run, records the beginning of the run, and performs the run. Then it removes the
// ledger, or sets it aside (see conclude). runLedger is nil if the run has no state directory.
func (sys *realSystem) performRun(r Run, runLedger *ledger.Ledger) (Result, error) {
	if r.Config.Defer != DeferOff {
		s, err := registry.Listen(r.ID)
		if err != nil {
			sys.log.Warn("no cleanup command can be registered from within the run", "err", err)
		}
		sys.socket, sys.socketLock, r.Socket = s.FD, s.Lock, s.Address
	}
	defer func() {
		registry.Remove(r.Socket)
		registry.RemoveDead(r.Socket)
	}()
	if r.Config.Notify != notify.Off {
		sys.openRelay(r.ID)
		defer sys.relay.Close()
	}
	if runLedger != nil {
		if err := recordBegin(runLedger, r, sys); err != nil {
			return Result{}, errors.Join(err, discard(runLedger))
		}
	}
	r, err := sys.performGuarded(r, runLedger)
	if err != nil {
		return Result{}, errors.Join(err, discard(runLedger))
	}
	sys.pty.Deliver(sys.listener.Signals)
	if err := sys.conclude(r, runLedger); err == errCommands && r.Config.StateDir != "" {
		sys.log.Warn("the run is done, but a cleanup command was not started", "hint", "graceful recover starts it")
	} else if err != nil && err != errCommands {
		sys.log.Warn("the run is done, but", "err", err)
	}
	return r.result(), nil
}

// performGuarded performs the run, with a guard if the configuration selects one. If a guard cannot be started, GuardOn
// is an error, and GuardAuto continues without a guard. A run that is too large for the ledger of a guard is always an
// error.
func (sys *realSystem) performGuarded(r Run, runLedger *ledger.Ledger) (Run, error) {
	if g := r.Config.Guard; g.wanted() {
		guarded, err := sys.startGuard(r, runLedger)
		switch {
		case err == nil:
			runLedger = guarded
			defer sys.endGuard()
		case errors.Is(err, journal.ErrTooLarge):
			return r, err
		case g == GuardOn:
			return r, fmt.Errorf("guard: %w", err)
		default:
			sys.log.Warn("there is no guard", "err", err, "hint", "if graceful itself is killed, nothing is cleaned up")
		}
	}
	if err := sys.makeCgroup(r); err != nil {
		return r, err
	}
	closeAll(sys.spareFDs)
	return sys.newLoop(newRecordedRun(r, runLedger)).start(), nil
}

// workingDir returns the path of the working directory. If no path leads there, it returns "". Graceful then stays in
// that directory, because commands could not return there.
func workingDir() string {
	dir, err := unix.Getwd()
	var here, there unix.Stat_t
	if err != nil || unix.Stat(".", &here) != nil || unix.Stat(dir, &there) != nil ||
		here.Dev != there.Dev || here.Ino != there.Ino {
		return ""
	}
	return dir
}

// openReport opens the destination of the report before the run can change where the path leads. It replaces the path
// in config by one without links, for the ledger, because recover follows no link. Without a report it returns nil.
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

// openParent watches the process that started graceful, if --die-with-parent is set. The results are those of
// watchParent. If that process has already ended, openParent logs that graceful starts nothing.
func openParent(config Config, log *slog.Logger) (gone <-chan struct{}, ended bool, err error) {
	if !config.DieWithParent {
		return nil, false, nil
	}
	gone, ended, err = watchParent(config)
	if err == nil && ended {
		hint := "or it is PID 1, which no process outlives: leave --die-with-parent out"
		if config.Parent != 0 {
			hint = fmt.Sprintf("the parent of graceful is process %d, and not %d", unix.Getppid(), config.Parent)
		}
		log.Warn("starting nothing", "err", parentEnded, "hint", hint)
	}
	return gone, ended, err
}
