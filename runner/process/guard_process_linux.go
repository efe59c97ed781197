package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guardProcess contains the data of the guard. Graceful prepares the data before the fork.
//
// The guard is a process that graceful forks and that executes no program. The guard is the parent of the target and of
// the commands, and starts them at graceful's request. If graceful ends before it has killed the guard, the guard
// starts a new graceful. The rules for a forked child (child_linux.go) apply during the guard's whole life.
// docs/architecture.md gives the reasons.
//
// The guard never waits for graceful to handle an event. It records events on the board, and sends SIGCHLD. While
// graceful is suspended, the guard still reaps orphans.
type guardProcess struct {
	board            *board
	leader           uintptr  // pid of graceful
	leaderFD         uintptr  // pidfd of leader; none: there is none (before Linux 5.3)
	link             uintptr  // the guard's end of the socket pair; none: graceful has closed its end
	endFD, peerFD    uintptr  // descriptor numbers of the guard's and of graceful's end, which a new pair gets, too
	forwardedSignals uint64   // signals that the guard forwards to graceful
	keptFDs          []int32  // descriptors that stay open, in ascending order, then unused entries: endOfFDs
	mayLeaveDir      bool     // the guard leaves the working directory when the target has started
	successor        *request // request that starts a new graceful
	request          request  // copy of the request that the received message refers to
	argv             []byte   // memory that ps(1) shows as the command line
	environ          []byte   // memory that /proc/PID/environ shows

	result         uintptr // result of the last system call
	errno          syscall.Errno
	signalFD       uintptr // signalfd(2) for all signals; none: it is missing
	childrenFD     uintptr // /proc/PID/task/TID/children; none: it is missing
	pendingSignals uint64  // signals to forward once a graceful leads
	zombiesHidden  bool    // a zombie that graceful has not handled may hide others from waitid(2)
	limitReached   bool    // the last call of collect has reached its limit
	othersClosed   bool    // closeOthers was called
	silent         bool    // collect does not notify graceful, because collectAll does
	changePending  bool    // the guard has not yet notified graceful of a change
	turns          int     // number of calls of collectAll since collectAll last notified graceful
	triedPriority  bool    // raisePriority was called
	raised         bool    // raisePriority has raised the priority
	oldNice        uintptr // nice value of the guard before raisePriority
	failures       int     // number of new gracefuls that have failed since one last led the run: see maxFailures
	kills          int     // number of new gracefuls that SIGKILL has ended since one last led the run: see maxKills
	killed         bool    // SIGKILL has ended the last graceful, a child of the guard

	childPID    uintptr   // the pid that forEachChild is parsing
	poll        [2]pollFD // link and signalFD
	timeout     unix.Timespec
	fullMask    uint64         // signal mask with every signal, for signalfd(2)
	info        siginfo        // result of the last waitid(2)
	usage       unix.Rusage    // resources that the child in info has used
	signalInfos [16]signalInfo // signals that readSignals has read
	text        [4096]byte     // text that was read from childrenFD
	message     message        // the message that receive has read
	socketPair  [2]int32       // descriptors of a new socket pair
	leaderPoll  pollFD         // for endLeader, which waits for the end of graceful
	pause       unix.Timespec  // time between two attempts to start a new graceful, or to kill the tree
	path        [32]byte       // path of the file of childrenFD
	root        [2]byte        // "/"
}

// none is the value for a missing descriptor.
const none = ^uintptr(0)

// endOfFDs marks an unused entry at the end of keptFDs. It is greater than every descriptor.
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

// message is a message from graceful to the guard. It contains the number of the slot of a process to start, and the
// offset (at) of the block with the request. If the slot is noSlot, the guard only looks at the board.
type message struct{ slot, at uint32 }

const noSlot = ^uint32(0)

// fork forks the guard. In the guard, fork does not return. In graceful, fork returns the guard's pid, or an error.
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

// setUp makes the guard a subreaper and the leader of a group of its own, and opens its descriptors. It also replaces
// the command line and the environment that other processes see.
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
	g.call(unix.SYS_CLOSE, g.peerFD, 0, 0, 0) // after the others are open, so that none gets this number (see connect)
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

// retain adds a descriptor to keptFDs. The new entry replaces an unused one (endOfFDs).
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
// returns the same zombie until the guard has reaped it.
const hiddenScanDelay = 50e6

// wait waits for a message or a signal. If zombies may be hidden, it waits for hiddenScanDelay at most. If nothing
// arrives in that time, it handles the hidden zombies. Without a signalfd it waits for the same time at most. It does
// not wait if collect has reached its limit.
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

// readSignals reads the signals that the guard has received. It forwards to graceful those in forwardedSignals, except
// the signals that graceful has sent, and those in droppedSignals. While no graceful leads the run, the signals to
// forward stay pending.
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

// signal sends a signal to graceful. It uses the pidfd, or kill(2) if there is no pidfd or a seccomp filter refuses the
// call.
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

// notify sends SIGCHLD to graceful if graceful leads the run. Graceful then looks at the board.
//
//go:norace
//go:nosplit
func (g *guardProcess) notify() {
	if g.board.leading != 0 {
		g.signal(uintptr(unix.SIGCHLD))
	}
}

// leaderEnded reports whether graceful has closed its end of the link. Usually graceful has then ended. endLeader makes
// sure of that.
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
