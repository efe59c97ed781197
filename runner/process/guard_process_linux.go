package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file contains the guard: a process that graceful forks and that executes no program. The guard is the parent of
// the target and of the commands, and starts them at graceful's request. If graceful ends before it has killed the
// guard, the guard starts a new graceful. The rules for a forked child (child_linux.go) apply during the guard's whole
// life. docs/architecture.md gives the reasons.
//
// The guard never waits for graceful. It records events on the board, and sends SIGCHLD. While graceful is suspended,
// the guard still reaps orphans.

// guardProcess contains the data of the guard. Graceful prepares it before the fork.
type guardProcess struct {
	board            *board
	leader           uintptr  // pid of graceful
	leaderFD         uintptr  // pidfd of leader; none before Linux 5.3
	link             uintptr  // the guard's end of the socket pair; none: graceful has ended
	endFD, peerFD    uintptr  // the descriptor numbers of the two ends
	forwardedSignals uint64   // signals that the guard forwards to graceful
	keptFDs          []int32  // descriptors that stay open, in order
	mayLeaveDir      bool     // the guard leaves the working directory when the target has started
	successor        *request // request that starts a new graceful
	request          request  // copy of the request in the current message
	argv             []byte   // memory that ps(1) shows as the command line
	environ          []byte   // memory that /proc/PID/environ shows

	result         uintptr // of the last system call
	errno          syscall.Errno
	signalFD       uintptr // signalfd(2)
	childrenFD     uintptr // /proc/PID/task/TID/children; none: it is missing
	pendingSignals uint64  // signals to forward once a graceful leads
	zombiesHidden  bool    // a zombie that graceful has not handled may hide others
	limitReached   bool    // the last call of collect has reached its limit
	othersClosed   bool    // the descriptors from the caller are closed
	silent         bool    // collect does not notify graceful
	changePending  bool    // the guard has not yet notified graceful of a change
	turns          int     // calls of collect since that change
	triedPriority  bool    // raisePriority was called
	raised         bool    // raisePriority has raised the priority
	oldNice        uintptr // nice value before that (getpriority(2))
	failures       int     // number of times in a row that a new graceful has ended before it led the run
	kills          int     // number of times that SIGKILL has ended a new graceful before it led the run
	killed         bool    // SIGKILL has ended the last graceful

	childPID    uintptr   // the pid that forEachChild is parsing
	poll        [2]pollFD // link and signals
	timeout     unix.Timespec
	fullMask    uint64         // signal mask with every signal, for signalfd(2)
	info        siginfo        // result of the last waitid(2)
	usage       unix.Rusage    // of the child in info
	signalInfos [16]signalInfo // signals that readSignals has read
	text        [4096]byte     // text that was read from childrenFD
	message     message        // the message that receive has read
	socketPair  [2]int32       // descriptors of a new socket pair
	leaderPoll  pollFD         // for endLeader, which waits for the end of graceful
	pause       unix.Timespec  // between two tries to start a new graceful
	path        [32]byte       // of childrenFD
	root        [2]byte        // "/"
}

// none is the value for a missing descriptor.
const none = ^uintptr(0)

// endOfFDs ends a list of descriptors. It is greater than every descriptor.
const endOfFDs = 1<<31 - 1

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
func (g *guardProcess) fork() (pid uintptr, errno syscall.Errno) {
	r := g.successor
	r.setMask(&allSignals, &r.parentMask)
	r.clone()
	if r.result == 0 && r.errno == 0 {
		g.run()
	}
	pid, errno = r.result, r.errno
	r.setMask(&r.parentMask, nil)
	return pid, errno
}

// run is the main loop of the guard. It does not return.
//
//go:norace
//go:nosplit
func (g *guardProcess) run() {
	g.setUp()
	for {
		g.wait()
		g.readSignals()
		g.collectAll()
		for g.receive() {
			if g.start() {
				g.request.become()
			}
			g.finishStart()
		}
		g.performRequests()
		if g.leaderEnded() && g.replaceLeader() {
			g.successor.become()
		}
	}
}

// setUp sets the guard up.
//
//go:norace
//go:nosplit
func (g *guardProcess) setUp() {
	g.call(unix.SYS_GETPID, 0, 0, 0, 0)
	g.board.guardPID = int32(g.result)
	g.call(unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0)
	g.call(unix.SYS_SETPGID, 0, 0, 0, 0)
	g.signalFD = none
	if g.call(unix.SYS_SIGNALFD4, none, uintptr(unsafe.Pointer(&g.fullMask)), sigsetSize,
		unix.SFD_NONBLOCK|unix.SFD_CLOEXEC) {
		g.signalFD = g.result
		g.retain(int32(g.result))
	}
	g.childrenFD = none
	if g.call(unix.SYS_OPENAT, atFDCWD, uintptr(unsafe.Pointer(&g.path)), unix.O_RDONLY|unix.O_CLOEXEC, 0) {
		g.childrenFD = g.result
		g.retain(int32(g.result))
	}
	g.call(unix.SYS_CLOSE, g.peerFD, 0, 0, 0) // last, so that no other descriptor gets the number (see connect)
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
	g.poll[1] = pollFD{fd: int32(g.signalFD), events: unix.POLLIN}
}

// retain adds a descriptor to the sorted list of those that stay open. The list ends with spare entries (endOfFDs).
//
//go:norace
//go:nosplit
func (g *guardProcess) retain(fd int32) {
	for i := range g.keptFDs {
		if g.keptFDs[i] > fd {
			g.keptFDs[i], fd = fd, g.keptFDs[i]
		}
	}
}

// guardName is the command line that ps(1) shows for the guard.
const guardName = "graceful: guard"

// hiddenScanDelay is the delay before the guard looks for zombies that another zombie hides, in nanoseconds. waitid(2)
// returns the same zombie until graceful has handled it.
const hiddenScanDelay = 50e6

// wait waits for a message, a signal, or the time to look for hidden zombies.
//
//go:norace
//go:nosplit
func (g *guardProcess) wait() {
	timeout := uintptr(0)
	g.timeout.Sec, g.timeout.Nsec = 0, hiddenScanDelay
	if g.limitReached {
		g.timeout.Nsec = 0
	}
	if g.limitReached || g.zombiesHidden || g.signalFD == none {
		timeout = uintptr(unsafe.Pointer(&g.timeout))
	}
	g.call5(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&g.poll)), 2, timeout, 0, 0)
	if g.zombiesHidden && !g.limitReached && g.result == 0 {
		g.zombiesHidden = false
		g.forEachChild(reapChild)
		g.notify()
	}
}

// readSignals forwards received signals to graceful.
//
//go:norace
//go:nosplit
func (g *guardProcess) readSignals() {
	size := unsafe.Sizeof(g.signalInfos)
	for g.signalFD != none && g.call(unix.SYS_READ, g.signalFD, uintptr(unsafe.Pointer(&g.signalInfos)), size, 0) {
		n := g.result / unsafe.Sizeof(g.signalInfos[0])
		for i := range n {
			if uintptr(g.signalInfos[i].pid) != g.leader {
				g.pendingSignals |= g.forwardedSignals & (1 << (g.signalInfos[i].signal - 1))
			}
		}
	}
	g.pendingSignals &^= g.board.droppedSignals
	for sig := uintptr(1); g.pendingSignals != 0 && g.board.leading != 0; sig++ {
		if bit := uint64(1) << (sig - 1); g.pendingSignals&bit != 0 {
			g.pendingSignals &^= bit
			g.signal(sig)
		}
	}
}

// signal sends a signal to graceful. It uses the pidfd, or kill(2) if a seccomp filter refuses the pidfd.
//
//go:norace
//go:nosplit
func (g *guardProcess) signal(sig uintptr) {
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

// notify sends SIGCHLD to graceful, which then looks at the board.
//
//go:norace
//go:nosplit
func (g *guardProcess) notify() {
	if g.board.leading != 0 {
		g.signal(uintptr(unix.SIGCHLD))
	}
}

// leaderEnded reports whether graceful has ended.
//
//go:norace
//go:nosplit
func (g *guardProcess) leaderEnded() bool { return g.link == none }

// call makes a system call, and stores its result and error. It returns true if the call has succeeded.
//
//go:norace
//go:nosplit
func (g *guardProcess) call(number, a1, a2, a3, a4 uintptr) bool {
	g.result, _, g.errno = syscall.RawSyscall6(number, a1, a2, a3, a4, 0, 0)
	return g.errno == 0
}

//go:norace
//go:nosplit
func (g *guardProcess) call5(number, a1, a2, a3, a4, a5 uintptr) {
	g.result, _, g.errno = syscall.RawSyscall6(number, a1, a2, a3, a4, a5, 0)
}
