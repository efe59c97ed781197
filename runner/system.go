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

// system is what the loop needs of the operating system.
type system interface {
	startTarget(Run) (pid int, err error)
	startCommand(Run, cleanup.Entry) (pid int, err error)
	child(pid int) procfs.Process // dead or alive; without a start time where it cannot be seen
	// targetIs says which of our children is the target, when it was not we who started it.
	targetIs(Run)
	children() []procfs.Process // dead or alive, of this run
	members() []procfs.Process  // alive
	// isOtherCommand tells whether a process belongs for certain to another cleanup command than that one.
	isOtherCommand(p procfs.Process, id int) bool
	isCommand(p procfs.Process, id int) bool // that one, as far as can be told
	alive(procfs.Identity) bool
	// member finds a process of the tree by its pid, and its start time where that is known, for who has that pid from there.
	member(pid int, start uint64, asker int) (procfs.Process, error)
	await(procfs.Identity) bool // its end is told
	admit(registry.Call) error  // nil: the process may make requests
	exempt(pid int)             // our child is a command, and nobody of the tree
	// peek shows a child that has ended, reap ends its zombie (see reap_linux.go).
	peek() (pid int, ending machine.Ending, childless bool)
	reap(pid int)
	usage(pid int) *machine.Usage // of a child that has ended and was not reaped
	signalGroup(syscall.Signal) error
	stopGroup(syscall.Signal) error    // signalGroup for a stop signal; signalUnasked leaves out those that have had it
	signalTarget(syscall.Signal) error // it alone
	signalSurvivors(...syscall.Signal) // each with all of them in order
	signalUnasked(...syscall.Signal)   // to those that stopGroup has not reached
	signalOrphans(...syscall.Signal)   // who has been born since then, of members that are dead
	signalCommand(pid int, sig syscall.Signal)
	killCommand(pid int)
	signalAll(procfs.Identity, syscall.Signal) // to a process that need not be our child, and all below it
	// kill sends SIGKILL to all that is found of the tree; denied are those who may not be signalled.
	kill() (found, denied []procfs.Process)
	// strike sends SIGKILL to our own children alone, which takes little time however many dead are among them.
	strike()
	empty(childless bool) bool
	// announced tells whether the end of every member of the tree reaches us as a child's.
	announced() bool
	suspend()
	// The terminal, see foreground.go.
	stopped(target int) syscall.Signal
	answerStop(target int, sig syscall.Signal) (what string)
	continued(target int)
	terminalWanted(target int, sig syscall.Signal) bool
	targetGone(r Run)
	frontGone(target int)
	// relayRest closes relayed when what the target has written is where it belongs, or nobody takes it.
	relayRest(r Run, stopped bool) (relayed <-chan struct{})
	writeReport(Run, *report.History) error
	keepSurvivors() // leave alone who is in the tree now
	cleaning()      // nothing but cleanup commands will be started from now on
	disband() error // the tree's cgroup, where it has one
}

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
func (p *processes) keepSurvivors()                         { p.tree.Keep(hookID) }
func (p *processes) signalSurvivors(sigs ...syscall.Signal) { p.pty.SignalAll(sigs, p.tree.Signal) }
func (p *processes) signalUnasked(sigs ...syscall.Signal) {
	p.pty.SignalAll(sigs, p.tree.SignalUnasked)
}
func (p *processes) signalOrphans(sigs ...syscall.Signal)           { p.tree.SignalOrphans(sigs...) }
func (p *processes) killCommand(pid int)                            { p.tree.KillBelow(pid) }
func (p *processes) kill() (found, denied []procfs.Process)         { return p.tree.Kill() }
func (p *processes) strike()                                        { p.tree.KillChildren() }
func (p *processes) empty(childless bool) bool                      { return p.tree.Empty(childless) }
func (p *processes) announced() bool                                { return p.tree.Announced() }
func (p *processes) child(pid int) procfs.Process                   { return p.tree.Child(pid) }
func (p *processes) members() []procfs.Process                      { return p.tree.Members() }
func (p *processes) signalAll(id procfs.Identity, s syscall.Signal) { p.tree.SignalAll(id, s) }
func (p *processes) children() []procfs.Process                     { return p.tree.Children() }
func (p *processes) alive(id procfs.Identity) bool                  { return p.tree.Alive(id) }
func (p *processes) signalCommand(pid int, sig syscall.Signal)      { _ = tree.SignalGroupOf(pid, sig) }
func (p *processes) cleaning()                                      { p.listener.IgnoreTTOU() }
func (p *processes) exempt(pid int)                                 { p.tree.Exempt(pid) }
func (p *processes) disband() error                                 { return p.tree.Disband() }

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
