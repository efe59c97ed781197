package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file contains the guard: a process that graceful forks and that executes no program. The guard is the parent of
// the target and of the commands. It starts them when graceful requests it. If graceful ends before it has killed the
// guard, the guard starts a new graceful. The rules for a forked child (child_linux.go) apply during the guard's whole
// life. docs/architecture.md gives the reasons.
//
// The guard never waits for graceful. It records events on the board, and sends SIGCHLD. While graceful is suspended,
// the guard still reaps orphans.

// guard contains the data of the guard. Graceful prepares it before the fork.
type guard struct {
	board     *board
	leader    uintptr  // pid of graceful
	leaderFD  uintptr  // pidfd of leader; none before Linux 5.3
	link      uintptr  // the guard's end of the socket pair; none: graceful has ended
	end, peer uintptr  // the descriptor numbers of the two ends
	passes    uint64   // signals that the guard forwards to graceful
	keep      []int32  // descriptors that stay open, in order
	leaves    bool     // the guard leaves the working directory when the target has started
	successor *request // request that starts a new graceful
	request   request  // copy of the request in the current message
	argv      []byte   // memory that ps(1) shows as the command line
	environ   []byte   // memory that /proc/PID/environ shows

	result        uintptr // of the last system call
	errno         syscall.Errno
	signals       uintptr // signalfd(2)
	children      uintptr // /proc/PID/task/TID/children; none: it is missing
	pending       uint64  // signals to forward once a graceful leads
	hidden        bool    // a zombie that graceful has not handled may hide others
	more          bool    // the last call of collect has reached its limit
	isAlone       bool    // the descriptors from the caller are closed
	silent        bool    // collect does not notify graceful
	untold        bool    // the guard has not yet notified graceful of a change
	turns         int     // calls of collect since that change
	triedPriority bool    // raisePriority was called
	raised        bool    // raisePriority has raised the priority
	nice          uintptr // nice value before that (getpriority(2))
	failures      int     // number of times in a row that a new graceful has ended before it led the run
	kills         int     // number of times that SIGKILL has ended a new graceful before it led the run
	killed        bool    // SIGKILL has ended the last graceful

	n       uintptr   // the pid that each is parsing
	poll    [2]pollFD // link and signals
	timeout unix.Timespec
	all     uint64         // signal mask with every signal, for signalfd(2)
	info    siginfo        // result of the last waitid(2)
	used    unix.Rusage    // of the child in info
	heard   [16]signalInfo // signals that readSignals has read
	text    [4096]byte     // text of the file children
	message message        // the message that receive has read
	pair    [2]int32       // descriptors of a new socket pair
	dead    pollFD         // for bury, which waits for the end of graceful
	pause   unix.Timespec  // between two tries to start a new graceful
	path    [32]byte       // of children
	root    [2]byte        // "/"
}

// none is the value for a missing descriptor.
const none = ^uintptr(0)

// noFD is greater than every descriptor.
const noFD = 1<<31 - 1

// pollFD is struct pollfd of poll(2).
type pollFD struct {
	fd              int32
	events, revents int16
}

// signalInfo is struct signalfd_siginfo.
type signalInfo struct {
	signal uint32
	_      [2]int32 // errno, code
	pid    uint32
	_      [112]byte
}

// message is a message from graceful to the guard. It contains the slot of a process to start, and the offset of the
// block of its request on the board. If the slot is noSlot, the guard only looks at the board.
type message struct{ slot, at uint32 }

const noSlot = ^uint32(0)

// fork forks the guard.
//
//go:norace
//go:nosplit
//go:noinline
func (g *guard) fork() (pid uintptr, errno syscall.Errno) {
	r := g.successor
	r.setMask(&allSignals, &r.before)
	r.clone()
	if r.result == 0 && r.errno == 0 {
		g.run()
	}
	pid, errno = r.result, r.errno
	r.setMask(&r.before, nil)
	return pid, errno
}

// run is the main loop of the guard. It does not return.
//
//go:norace
//go:nosplit
func (g *guard) run() {
	g.begin()
	for {
		g.wait()
		g.readSignals()
		g.collectAll()
		for g.receive() {
			if g.start() {
				g.request.become()
			}
			g.started()
		}
		g.perform()
		if g.ended() && g.replace() {
			g.successor.become()
		}
	}
}

// begin sets the guard up.
//
//go:norace
//go:nosplit
func (g *guard) begin() {
	g.call(unix.SYS_GETPID, 0, 0, 0, 0)
	g.board.guard = int32(g.result)
	g.call(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0)
	g.call(unix.SYS_SETPGID, 0, 0, 0, 0)
	g.signals = none
	if g.call(unix.SYS_SIGNALFD4, none, uintptr(unsafe.Pointer(&g.all)), sigsetSize, unix.SFD_NONBLOCK|unix.SFD_CLOEXEC) {
		g.signals = g.result
		g.retain(int32(g.result))
	}
	g.children = none
	if g.call(unix.SYS_OPENAT, atFDCWD, uintptr(unsafe.Pointer(&g.path)), unix.O_RDONLY|unix.O_CLOEXEC, 0) {
		g.children = g.result
		g.retain(int32(g.result))
	}
	g.call(unix.SYS_CLOSE, g.peer, 0, 0, 0) // last, so that no other descriptor gets the number (see connect)
	for i := range g.argv {
		if i < len(guardName) {
			g.argv[i] = guardName[i]
		} else {
			g.argv[i] = 0
		}
	}
	for i := range g.environ {
		g.environ[i] = 0
	}
	g.poll[0] = pollFD{fd: int32(g.link), events: unix.POLLIN}
	g.poll[1] = pollFD{fd: int32(g.signals), events: unix.POLLIN}
}

// retain adds a descriptor to the sorted list of those that stay open. The list ends with spare entries (noFD).
//
//go:norace
//go:nosplit
func (g *guard) retain(fd int32) {
	for i := range g.keep {
		if g.keep[i] > fd {
			g.keep[i], fd = fd, g.keep[i]
		}
	}
}

// guardName is the command line that ps(1) shows for the guard.
const guardName = "graceful: guard"

// lookAfter is the delay before the guard looks for zombies that another zombie hides, in nanoseconds. waitid(2)
// returns the same zombie until graceful has handled it.
const lookAfter = 50e6

// wait waits for a message, a signal, or the time to look for hidden zombies.
//
//go:norace
//go:nosplit
func (g *guard) wait() {
	timeout := uintptr(0)
	g.timeout.Sec, g.timeout.Nsec = 0, lookAfter
	if g.more {
		g.timeout.Nsec = 0
	}
	if g.more || g.hidden || g.signals == none {
		timeout = uintptr(unsafe.Pointer(&g.timeout))
	}
	g.call5(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&g.poll)), 2, timeout, 0, 0)
	if g.hidden && !g.more && g.result == 0 {
		g.hidden = false
		g.each(reapChild)
		g.tell()
	}
}

// readSignals forwards received signals to graceful.
//
//go:norace
//go:nosplit
func (g *guard) readSignals() {
	size := unsafe.Sizeof(g.heard)
	for g.signals != none && g.call(unix.SYS_READ, g.signals, uintptr(unsafe.Pointer(&g.heard)), size, 0) {
		n := g.result / unsafe.Sizeof(g.heard[0])
		for i := range n {
			if uintptr(g.heard[i].pid) != g.leader {
				g.pending |= g.passes & (1 << (g.heard[i].signal - 1))
			}
		}
	}
	g.pending &^= g.board.drops
	for sig := uintptr(1); g.pending != 0 && g.board.leads != 0; sig++ {
		if bit := uint64(1) << (sig - 1); g.pending&bit != 0 {
			g.pending &^= bit
			g.signal(sig)
		}
	}
}

// signal sends a signal to graceful. It uses the pidfd, or kill(2) if a seccomp filter refuses the pidfd.
//
//go:norace
//go:nosplit
func (g *guard) signal(sig uintptr) {
	for range tries {
		if g.leaderFD != none && g.call(unix.SYS_PIDFD_SEND_SIGNAL, g.leaderFD, sig, 0, 0) ||
			g.leaderFD == none && g.call(unix.SYS_KILL, g.leader, sig, 0, 0) {
			return
		}
	}
	if g.errno == syscall.EPERM || g.errno == syscall.ENOSYS {
		g.call(unix.SYS_KILL, g.leader, sig, 0, 0)
	}
}

// tries is the maximum number of attempts of a system call that may fail temporarily.
const tries = 3

// tell sends SIGCHLD to graceful, which then looks at the board.
//
//go:norace
//go:nosplit
func (g *guard) tell() {
	if g.board.leads != 0 {
		g.signal(uintptr(unix.SIGCHLD))
	}
}

// ended reports whether graceful has ended.
//
//go:norace
//go:nosplit
func (g *guard) ended() bool { return g.link == none }

// call makes a system call, and stores its result and error. It returns true if the call has succeeded.
//
//go:norace
//go:nosplit
func (g *guard) call(number, a1, a2, a3, a4 uintptr) bool {
	g.result, _, g.errno = syscall.RawSyscall6(number, a1, a2, a3, a4, 0, 0)
	return g.errno == 0
}

//go:norace
//go:nosplit
func (g *guard) call5(number, a1, a2, a3, a4, a5 uintptr) {
	g.result, _, g.errno = syscall.RawSyscall6(number, a1, a2, a3, a4, a5, 0)
}
