package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/registry"
	"graceful/forward"
	"graceful/runner/report"
	"graceful/runner/terminal"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// system is what the loop needs of the operating system.
type system interface {
	startTarget(Run) (pid int, err error)
	startCommand(Run, cleanup.Entry) (pid int, err error)
	child(pid int) tree.Process // dead or alive; without a start time where it cannot be seen
	// targetIs says which of our children is the target, when it was not we who started it.
	targetIs(Run)
	children() []tree.Process // dead or alive, of this run
	members() []tree.Process  // alive
	// isOtherCommand tells whether a process belongs for certain to another cleanup command than that one.
	isOtherCommand(p tree.Process, id int) bool
	isCommand(p tree.Process, id int) bool // that one, as far as can be told
	alive(tree.Identity) bool
	// member finds a process of the tree by its pid, and its start time where that is known, for who has that pid from there.
	member(pid int, start uint64, asker int) (tree.Process, error)
	await(tree.Identity) bool  // its end is told
	admit(registry.Call) error // nil: the process may make requests
	exempt(pid int)            // our child is a command, and nobody of the tree
	// peek shows a child that has ended, reap ends its zombie (see reap_linux.go).
	peek() (pid int, ending Ending, childless bool)
	reap(pid int)
	usage(pid int) *Usage // of a child that has ended and was not reaped
	signalGroup(syscall.Signal) error
	stopGroup(syscall.Signal) error    // signalGroup for a stop signal; signalUnasked leaves out those that have had it
	signalTarget(syscall.Signal) error // it alone
	signalSurvivors(...syscall.Signal) // each with all of them in order
	signalUnasked(...syscall.Signal)   // to those that stopGroup has not reached
	signalOrphans(...syscall.Signal)   // who has been born since then, of members that are dead
	signalCommand(pid int, sig syscall.Signal)
	killCommand(pid int)
	signalAll(tree.Identity, syscall.Signal) // to a process that need not be our child, and all below it
	// kill sends SIGKILL to all that is found of the tree; denied are those who may not be signalled.
	kill() (found, denied []tree.Process)
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
	writeReport(Run, *history) error
	keepSurvivors() // leave alone who is in the tree now
	cleaning()      // nothing but cleanup commands will be started from now on
	disband() error // the tree's cgroup, where it has one
}

// processes is the real system.
type processes struct {
	tree     *tree.Tree
	listener *forward.Listener
	inherit  inherited
	devNull  *os.File
	front    int // pid of our front, where we are the supervisor
	link     int // to it
	jobs     jobControl

	supervisor int // its pid, ours or our child's; 0: there is none

	deferring Defer

	socket int                // at which commands are registered; below 0: none
	exits  chan tree.Identity // see await
	pidfds chan struct{}      // one word for each descriptor that it has taken

	parentGone <-chan struct{} // see watchParent; nil: it does not matter

	own relaying // --pty

	report *report.File // nil: none is wanted
}

func (p *processes) startTarget(r Run) (int, error) {
	path, err := lookPath(r.Config.Command[0], searchPath(r.Config.Env))
	if err != nil {
		return 0, err
	}
	s := start{path: path, argv: r.Config.Command, env: runEnv(r), blocked: p.inherit.blocked, cgroup: r.Cgroup, pty: p.own.pty}
	if p.front == 0 {
		p.own.pty.Begin(true)
	}
	fork := p.fork
	s.foreground = p.jobs.terminal.Ready()
	if self := strconv.Itoa(p.userPID()); s.foreground || p.inherit.ignores(unix.SIGCHLD) ||
		getenv(s.env, "LISTEN_PID") == self || getenv(s.env, "WATCHDOG_PID") == self {
		fork = p.throughShim
	}
	pid, err := fork(s)
	if s.cgroup != "" && err != nil && !outOfResources(err) { // was it clone3(2), which seccomp filters may refuse, or execve(2)?
		s.enter = true
		pid, err = p.throughShim(s)
	}
	if err != nil {
		return 0, &fs.PathError{Op: "execute", Path: path, Err: err}
	}
	p.tree.Started(pid)
	p.listener.Hear()
	return pid, nil
}

// userPID is the pid by which the user knows us.
func (p *processes) userPID() int {
	if p.front != 0 {
		return p.front
	}
	return unix.Getpid()
}

func (p *processes) startCommand(r Run, c cleanup.Entry) (pid int, err error) {
	args, env := c.Command.Args, commandEnv(r, c)
	if err := enterable(c.Dir); err != nil {
		return 0, fmt.Errorf("its working directory: %w", err)
	}
	path, err := lookPath(args[0], within(c.Dir, searchPath(env)))
	if err != nil {
		return 0, err
	}
	s := start{path: path, argv: args, env: env, dir: c.Dir, stdin: p.devNull.Fd(), blocked: p.inherit.blocked}
	p.listener.Ignoring(func() { pid, err = p.fork(s) })
	return pid, err
}

// start is a process to be.
type start struct {
	path    string
	argv    []string
	env     []string
	dir     string // working directory; "": ours
	stdin   uintptr
	keep    []int            // descriptors of ours that it gets, under their numbers
	blocked []syscall.Signal // its signal mask
	cgroup  string           // the one that it is born in; "": ours
	enter   bool             // it enters that by itself

	foreground bool          // its group is the terminal's foreground group
	pty        *terminal.PTY // its terminal; nil: ours, if we have one
}

// fork starts a process as leader of a group of its own. Descriptors above 2 that are not ours stay open in it.
func (p *processes) fork(s start) (int, error) {
	// The child's signal mask is that of the thread that forks it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer setMask(block(s.blocked))
	for _, fd := range s.keep { // there is no other who forks meanwhile
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return 0, err
		}
		defer unix.CloseOnExec(fd)
	}
	attr, files := &syscall.SysProcAttr{Setpgid: true}, []uintptr{s.stdin, 1, 2}
	if s.pty != nil {
		slave := uintptr(s.pty.Slave())
		attr, files = &syscall.SysProcAttr{Setsid: true, Setctty: true}, []uintptr{slave, slave, slave} // in a group of its own, too
	}
	if s.cgroup != "" && !s.enter {
		done, err := tree.StartIn(s.cgroup, attr)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errCgroup, err)
		}
		defer done()
	}
	return syscall.ForkExec(s.path, s.argv, &syscall.ProcAttr{Env: s.env, Dir: s.dir, Files: files, Sys: attr})
}

// errCgroup: a process could not be started in its cgroup.
var errCgroup = errors.New("entering its cgroup")

func (p *processes) peek() (int, Ending, bool) { return peek() }

func (p *processes) reap(pid int) {
	reap(pid)
	p.tree.Reaped(pid)
}

func (p *processes) usage(pid int) *Usage { return usageOf(pid) }
func (p *processes) signalGroup(sig syscall.Signal) error {
	return p.own.signal(sig, p.tree.SignalGroup)
}
func (p *processes) stopGroup(sig syscall.Signal) error {
	return p.own.signal(sig, p.tree.StopGroup)
}
func (p *processes) signalTarget(sig syscall.Signal) error {
	return p.own.signal(sig, p.tree.SignalLeader)
}
func (p *processes) keepSurvivors()                         { p.tree.Keep(hookID) }
func (p *processes) signalSurvivors(sigs ...syscall.Signal) { p.own.signalAll(sigs, p.tree.Signal) }
func (p *processes) signalUnasked(sigs ...syscall.Signal) {
	p.own.signalAll(sigs, p.tree.SignalUnasked)
}
func (p *processes) signalOrphans(sigs ...syscall.Signal)         { p.tree.SignalOrphans(sigs...) }
func (p *processes) killCommand(pid int)                          { p.tree.KillBelow(pid) }
func (p *processes) kill() (found, denied []tree.Process)         { return p.tree.Kill() }
func (p *processes) strike()                                      { p.tree.Strike() }
func (p *processes) empty(childless bool) bool                    { return p.tree.Empty(childless) }
func (p *processes) announced() bool                              { return p.tree.Announced() }
func (p *processes) child(pid int) tree.Process                   { return p.tree.Child(pid) }
func (p *processes) members() []tree.Process                      { return p.tree.Members() }
func (p *processes) signalAll(id tree.Identity, s syscall.Signal) { p.tree.SignalAll(id, s) }
func (p *processes) children() []tree.Process                     { return p.tree.Children() }
func (p *processes) alive(id tree.Identity) bool                  { return p.tree.Alive(id) }
func (p *processes) signalCommand(pid int, sig syscall.Signal)    { _ = tree.SignalGroupOf(pid, sig) }
func (p *processes) cleaning()                                    { p.listener.IgnoreTTOU() }
func (p *processes) exempt(pid int)                               { p.tree.Exempt(pid) }
func (p *processes) disband() error                               { return p.tree.Disband() }

func (p *processes) targetIs(r Run) {
	if r.TargetPID == 0 || r.State >= Cleaning {
		return
	}
	p.tree.Started(r.TargetPID)
	if r.Ended { // and perhaps reaped
		p.tree.Reaped(r.TargetPID)
	}
}

func (p *processes) isOtherCommand(c tree.Process, id int) bool {
	mine, known := p.tree.Environ(c.PID, hookID)
	return known && mine != strconv.Itoa(id)
}

// isCommand looks again while a process has not executed the command yet, and so has nothing of its environment. Nor do
// the dead, and a command that takes little time may be dead: rather is another one taken for it, and it is not started,
// than that it is started twice.
func (p *processes) isCommand(c tree.Process, id int) bool {
	for late := time.Now().Add(lockPatience); ; time.Sleep(time.Millisecond) {
		mine, known := p.tree.Environ(c.PID, hookID)
		if known || !p.tree.RunsUs(c.PID) || time.Now().After(late) {
			return known && mine == strconv.Itoa(id) || !known && p.tree.DiedLeading(c.PID)
		}
	}
}
