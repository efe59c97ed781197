package runner

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/registry"
	"graceful/forward/listen"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/procfs"
	"graceful/runner/report"
	"graceful/runner/terminal"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// system is what the loop needs of the operating system, in parts of a few methods each.
type system struct {
	starter
	reaper
	members
	signals
	killer
	jobs
	waiter
	finisher
}

type (
	// starter starts processes.
	starter interface {
		startTarget(Run) (pid int, err error)
		startCommand(Run, cleanup.Entry) (pid int, err error)
		cleaning() // from now on only cleanup commands are started
	}
	// reaper looks at children that have ended, and reaps them.
	reaper interface {
		peek() (pid int, ending machine.Ending, childless bool)
		usage(pid int) *machine.Usage // of a child that peek has shown
		reap(pid int)
	}
	// members tells who belongs to the run. A tree.Tree is one.
	members interface {
		Members() []procfs.Process    // alive
		Children() []procfs.Process   // dead or alive
		Child(pid int) procfs.Process // dead or alive; without a start time where it cannot be seen
		Alive(procfs.Identity) bool
		Exempt(pid int)       // a child is a cleanup command, and no member
		Keep(variable string) // the present members are members no more
		Disband() error       // the run's cgroup
	}
	// signals sends signals other than SIGKILL.
	signals interface {
		signalGroup(syscall.Signal) error
		stopGroup(syscall.Signal) error // signalGroup for a stop signal: signalUnasked leaves out those that received it
		signalTarget(syscall.Signal) error
		signalSurvivors(...syscall.Signal)
		signalUnasked(...syscall.Signal)
		signalCommand(pid int, sig syscall.Signal)
	}
	// killer empties the tree. A tree.Tree is one.
	killer interface {
		Kill() (found, denied []procfs.Process) // denied are those that may not be signalled
		KillChildren()                          // our own children alone, without a look at each
		KillBelow(pid int)                      // a child's group, and its descendants
		SignalAll(procfs.Identity, syscall.Signal)
		SignalOrphans(...syscall.Signal)
		Empty(childless bool) bool
		Announced() bool // the end of every member reaches us as a child's
	}
	// jobs is job control, see foreground.go.
	jobs interface {
		suspend()
		stopped(target int) syscall.Signal
		answerStop(target int, sig syscall.Signal) (what string)
		continued(target int)
		terminalWanted(target int, sig syscall.Signal) bool
		targetGone(r Run)
		frontGone(target int)
	}
	// waiter knows the processes that others start, and that ask for something.
	waiter interface {
		targetIs(Run)                                 // a child that another process of graceful started
		isOtherCommand(p procfs.Process, id int) bool // certainly of another cleanup command
		isCommand(p procfs.Process, id int) bool      // of that one, as far as can be told
		member(pid int, start uint64, asker int) (procfs.Process, error)
		await(procfs.Identity) bool // its end is reported
		admit(registry.Call) error  // nil: the process may make requests
	}
	// finisher does what comes last.
	finisher interface {
		relayRest(r Run, stopping bool) (relayed <-chan struct{})
		writeReport(Run, *report.History) error
	}
)

// processes is the real system.
type processes struct {
	tree     *tree.Tree
	listener *listen.Listener
	inherit  process.Inherited
	devNull  *os.File
	front    int // pid of our front, where we are the supervisor
	link     int // to it
	jobs     jobControl

	supervisor int // its pid, ours or our child's; 0: there is none

	deferring Defer

	socket int                  // at which commands are registered; below 0: none
	exits  chan procfs.Identity // see await
	pidfds chan struct{}        // one word for each descriptor that it has taken

	parentGone <-chan struct{} // see watchParent; nil: it does not matter

	pty terminal.Policy // --pty

	report *report.File // nil: none is wanted
}

func (p *processes) startTarget(r Run) (int, error) {
	env := runEnv(r)
	path, err := process.LookPath(r.Config.Command[0], process.SearchPath(env))
	if err != nil {
		return 0, err
	}
	s := process.Spec{
		Path: path, Argv: r.Config.Command, Env: env, Blocked: p.inherit.Blocked, Cgroup: r.Cgroup,
		Foreground: p.jobs.terminal.StartsInForeground(), IgnoreChild: p.inherit.Ignores(unix.SIGCHLD), PIDOfOurs: p.userPID(),
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
	// Did clone3(2) fail, which a seccomp filter may refuse, or execve(2)?
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

// userPID is the pid by which the user knows graceful.
func (p *processes) userPID() int {
	if p.front != 0 {
		return p.front
	}
	return unix.Getpid()
}

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

func (p *processes) targetIs(r Run) {
	if r.Target.PID == 0 || r.State >= machine.Cleaning {
		return
	}
	p.tree.Started(r.Target.PID)
	if r.Target.Ended { // and perhaps reaped
		p.tree.Reaped(r.Target.PID)
	}
}

func (p *processes) isOtherCommand(c procfs.Process, id int) bool {
	mine, known := p.tree.Environ(c.PID, hookID)
	return known && mine != strconv.Itoa(id)
}

// isCommand looks again while a process has not executed the command yet, and so has nothing of its environment. Nor do
// the dead, and a command that takes little time may be dead: rather is another one taken for it, and it is not started,
// than that it is started twice.
func (p *processes) isCommand(c procfs.Process, id int) bool {
	for late := time.Now().Add(lockPatience); ; time.Sleep(time.Millisecond) {
		mine, known := p.tree.Environ(c.PID, hookID)
		if known || !p.tree.RunsUs(c.PID) || time.Now().After(late) {
			return known && mine == strconv.Itoa(id) || !known && p.tree.DiedLeading(c.PID)
		}
	}
}
