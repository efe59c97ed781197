package runner

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/forward/listen"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/procfs"
	"graceful/runner/report"
	"graceful/runner/terminal"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// processes is the real operating system.
type processes struct {
	tree     *tree.Tree
	listener *listen.Listener
	inherit  process.Inherited
	devNull  *os.File
	front    int // pid of the front; 0: this process is not a supervisor
	link     int // to the front
	jobs     jobControl

	supervisor int // pid of the supervisor, which is this process or its child; 0: there is none

	deferring Defer

	socket int                  // for registrations; below 0: none
	exits  chan procfs.Identity // see awaitExit
	pidfds chan struct{}        // holds one value for each pidfd of awaitExit

	parentGone <-chan struct{} // see watchParent; nil: the run does not depend on the parent

	pty terminal.Policy // --pty

	report *report.File // nil: the run writes none
}

// startTarget starts the target. An error of execve(2) is a *fs.PathError.
func (p *processes) startTarget(r Run) (int, error) {
	env := runEnv(r)
	path, err := process.LookPath(r.Config.Command[0], process.SearchPath(env))
	if err != nil {
		return 0, err
	}
	s := process.Spec{
		Path: path, Argv: r.Config.Command, Env: env, Blocked: p.inherit.Blocked, Cgroup: r.Cgroup,
		Foreground:  p.jobs.terminal.StartsInForeground(),
		IgnoreChild: p.inherit.Ignores(unix.SIGCHLD), PIDOfOurs: p.userPID(),
	}
	if p.pty.PTY != nil {
		s.Terminal = uintptr(p.pty.Slave())
	}
	if p.front == 0 {
		p.pty.Begin(true)
	}
	var pid int
	if s.NeedsShim() {
		pid, err = s.StartByShim(func(pid int) { _ = p.jobs.terminal.GiveForeground(pid) })
	} else {
		pid, err = s.Start()
	}
	// A seccomp filter may refuse clone3(2). If execve(2) failed, it fails again.
	if s.Cgroup != "" && err != nil && !process.OutOfResources(err) {
		pid, err = s.StartEntering(func(pid int) { _ = p.jobs.terminal.GiveForeground(pid) })
	}
	if err != nil {
		return 0, &fs.PathError{Op: "execute", Path: path, Err: err}
	}
	p.tree.Started(pid)
	p.listener.Hear()
	return pid, nil
}

// userPID returns the pid of the process that the user started.
func (p *processes) userPID() int {
	if p.front != 0 {
		return p.front
	}
	return unix.Getpid()
}

// startCommand starts a cleanup command.
func (p *processes) startCommand(r Run, c cleanup.Entry) (pid int, err error) {
	args, env := c.Command.Args, commandEnv(r, c)
	if err := process.CheckDir(c.Dir); err != nil {
		return 0, fmt.Errorf("its working directory: %w", err)
	}
	path, err := process.LookPath(args[0], process.PathWithin(c.Dir, process.SearchPath(env)))
	if err != nil {
		return 0, err
	}
	s := process.Spec{Path: path, Argv: args, Env: env, Dir: c.Dir, Stdin: p.devNull.Fd(), Blocked: p.inherit.Blocked}
	p.listener.Ignoring(func() { pid, err = s.Start() })
	return pid, err
}

func (p *processes) peek() (int, machine.Ending, bool) { return process.Peek() }

func (p *processes) reap(pid int) {
	process.Reap(pid)
	p.tree.Reaped(pid)
}

func (p *processes) usage(pid int) *machine.Usage { return process.UsageOf(pid) }

func (p *processes) signalGroup(sig syscall.Signal) error {
	return p.pty.Signal(sig, p.tree.SignalGroup)
}
func (p *processes) stopGroup(sig syscall.Signal) error {
	return p.pty.Signal(sig, p.tree.StopGroup)
}
func (p *processes) signalTarget(sig syscall.Signal) error {
	return p.pty.Signal(sig, p.tree.SignalLeader)
}
func (p *processes) signalSurvivors(sigs ...syscall.Signal) { p.pty.SignalAll(sigs, p.tree.Signal) }
func (p *processes) signalUnasked(sigs ...syscall.Signal) {
	p.pty.SignalAll(sigs, p.tree.SignalUnasked)
}
func (p *processes) signalCommand(pid int, sig syscall.Signal) { _ = tree.SignalGroupOf(pid, sig) }
func (p *processes) cleaning()                                 { p.listener.IgnoreTTOU() }

// setTarget makes the tree know a target that another process of graceful started.
func (p *processes) setTarget(r Run) {
	if r.Target.PID == 0 || r.State >= machine.Cleaning {
		return
	}
	p.tree.Started(r.Target.PID)
	if r.Target.Ended { // it may be reaped
		p.tree.Reaped(r.Target.PID)
	}
}

func (p *processes) isOtherCommand(c procfs.Process, id int) bool {
	found, known := p.tree.Environ(c.PID, hookID)
	return known && found != strconv.Itoa(id)
}

// isCommand reports whether a process belongs to the cleanup command id. Before its execve(2), a process lacks the
// environment of the command; isCommand waits for that.
//
// A zombie has no environment, and a short command may be a zombie already. isCommand takes a zombie that led its group
// for the command: a command that does not run at all is better than one that runs twice.
func (p *processes) isCommand(c procfs.Process, id int) bool {
	for late := time.Now().Add(lockPatience); ; time.Sleep(time.Millisecond) {
		found, known := p.tree.Environ(c.PID, hookID)
		if known || !p.tree.RunsUs(c.PID) || time.Now().After(late) {
			return known && found == strconv.Itoa(id) || !known && p.tree.DiedLeading(c.PID)
		}
	}
}
