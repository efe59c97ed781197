package runner

import (
	"fmt"
	"os"
	"syscall"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner/machine"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// A probe takes one step of a run, and starts no run. Package doctor reports what the probes return, so that doctor and
// a run cannot disagree.

// InheritedSignals returns the signals that were ignored and blocked when graceful was started. unread says why the
// lists may be incomplete; nil: they are complete.
func InheritedSignals() (ignored, blocked []syscall.Signal, unread error) {
	in := readInherited()
	return in.ignored, in.blocked, unreadable()
}

// GuardByDefault reports whether a run has a guard here unless a flag decides otherwise.
func GuardByDefault() bool { return GuardAuto.wanted() }

// ProbeShell returns an error if cleanup commands in shell form cannot run.
func ProbeShell() error { return haveShell() }

// ProbeRequest returns an error if a run with --defer auto refuses requests of the process that made this one.
func ProbeRequest(c registry.Call) error {
	p := processes{deferring: DeferAuto}
	return p.admit(c)
}

// ProbeParent reports whether the process that started graceful has ended, or is PID 1. The error says why graceful
// cannot watch it.
func ProbeParent() (ended bool, err error) {
	_, ended, err = watchParent(Config{})
	return ended, err
}

// ProbeLedger writes the first record of a run that never starts.
func ProbeLedger(l *ledger.Ledger) error {
	r := newRun(NewID(), Config{
		Command: []string{"doctor"}, Name: "doctor", Contain: tree.Auto,
		Policy: machine.Policy{
			Order: cleanup.LIFO, ForwardTo: machine.ForwardToGroup, Survivors: machine.StopSurvivors,
		},
	})
	return begin(l, r, readInherited())
}

// IsDone reports whether the run of a ledger is done. The error is journal.ErrEmpty if the run never began.
func IsDone(l *ledger.Ledger) (bool, error) {
	m, err := read(l)
	return err == nil && m.run.State == machine.Done, err
}

// NewID returns an id for a run: 32 hexadecimal digits.
func NewID() string { return newID() }

// SelfPath returns a path at which graceful can be executed, even where /proc is missing.
func SelfPath() (string, error) {
	if unix.Access(selfExe, unix.X_OK) == nil {
		return selfExe, nil
	}
	if path, err := os.Executable(); err == nil {
		return path, nil
	}
	return lookPath(os.Args[0], searchPath(os.Environ()))
}

// StartSelf executes graceful at path, in a process group of its own and with the environment of a supervisor. Standard
// input is empty; standard output and error are output. The caller reaps the process.
func StartSelf(path string, args []string, output *os.File) (pid int, err error) {
	stdin, err := emptyInput()
	if err != nil {
		return 0, err
	}
	defer stdin.Close()
	pid, err = syscall.ForkExec(path, append([]string{"graceful"}, args...), &syscall.ProcAttr{
		Env:   supervisorEnv(os.Environ()),
		Files: []uintptr{stdin.Fd(), output.Fd(), output.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("starting %s: %w", path, err)
	}
	return pid, nil
}
