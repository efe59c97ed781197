package process

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxFailures is the maximum number of new gracefuls that may end until one leads the run. The first maxKills ends by
// SIGKILL do not count, because the process that killed the previous graceful may kill the new one as well.
const maxFailures, maxKills = 3, 20

// replaceLeader makes sure that graceful has ended, and then forks a new one. It returns true in the child. If a fork
// fails, or the previous new graceful has failed, replaceLeader kills all children and waits, at most for a second,
// before it tries again. After more than maxFailures failed gracefuls, replaceLeader calls giveUp.
//
//go:norace
//go:nosplit
func (g *guardProcess) replaceLeader() (child bool) {
	g.endLeader()
	switch {
	case g.board.leading != 0:
		g.failures, g.kills, g.pause.Nsec = 0, 0, 0
	case g.killed && g.kills < maxKills:
		g.kills++
	default:
		g.failures++
	}
	g.board.leading = 0
	for again := g.failures > 0; ; again = true {
		if g.failures > maxFailures {
			g.giveUp()
		}
		if again {
			g.forEachChild(killChild)
			g.pause.Nsec = min(2*g.pause.Nsec+10e6, 999e6)
			g.call5(unix.SYS_PPOLL, 0, 0, uintptr(unsafe.Pointer(&g.pause)), 0, 0)
			g.collect()
		}
		if g.connect() && g.forkSuccessor() {
			return g.leader == 0
		}
	}
}

// endLeader kills graceful, because graceful may only have closed the link. With a pidfd it waits for the end, at most
// for a second. If graceful is a child of the guard, endLeader reaps it.
//
//go:norace
//go:nosplit
func (g *guardProcess) endLeader() {
	g.signal(uintptr(unix.SIGKILL))
	if g.leaderFD != none {
		g.leaderPoll = pollFD{fd: int32(g.leaderFD), events: unix.POLLIN}
		g.timeout.Sec, g.timeout.Nsec = 1, 0
		g.call5(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&g.leaderPoll)), 1, uintptr(unsafe.Pointer(&g.timeout)), 0, 0)
		g.call(unix.SYS_CLOSE, g.leaderFD, 0, 0, 0)
	}
	g.apply(reapChild, g.leader)
	g.collect()
}

// connect makes a new socket pair, with the old descriptor numbers. It returns false if that fails.
//
//go:norace
//go:nosplit
func (g *guardProcess) connect() bool {
	const kind = unix.SOCK_SEQPACKET | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	if !g.call(unix.SYS_SOCKETPAIR, unix.AF_UNIX, kind, 0, uintptr(unsafe.Pointer(&g.socketPair))) {
		return false
	}
	end, peer := uintptr(g.socketPair[0]), uintptr(g.socketPair[1])
	ok := g.call(unix.SYS_DUP3, end, g.endFD, unix.O_CLOEXEC, 0)
	// The end that has the number peerFD is not closed here: the next dup3(2) replaces it.
	if end != g.peerFD {
		g.call(unix.SYS_CLOSE, end, 0, 0, 0)
	}
	if peer != g.peerFD {
		ok = g.call(unix.SYS_DUP3, peer, g.peerFD, unix.O_CLOEXEC, 0) && ok
		g.call(unix.SYS_CLOSE, peer, 0, 0, 0)
	}
	return ok
}

// forkSuccessor forks a new graceful. It returns false if that fails. In the child, leader is 0.
//
//go:norace
//go:nosplit
func (g *guardProcess) forkSuccessor() bool {
	g.board.childless = 0
	g.successor.clone()
	if g.successor.errno != 0 {
		return false
	}
	g.leader = g.successor.result
	if g.leader == 0 {
		g.restorePriority()
		return true
	}
	g.leaderFD = none
	if g.call(unix.SYS_PIDFD_OPEN, g.leader, 0, 0, 0) {
		g.leaderFD = g.result
	}
	g.call(unix.SYS_CLOSE, g.peerFD, 0, 0, 0)
	g.link = g.endFD
	g.poll[0].fd = int32(g.link)
	return true
}

// giveUp kills all children until none is left, for 10 seconds at most, and exits. If the run has a state directory,
// graceful recover can complete the run later.
//
//go:norace
//go:nosplit
func (g *guardProcess) giveUp() {
	g.pause.Nsec = 10e6
	for range 1000 {
		g.forEachChild(killChild)
		g.collect()
		// The next collect reaps a process without a slot like an orphan. No graceful is left to ask for that.
		for i := range g.board.usedSlots {
			g.board.slots[i].pid = 0
		}
		if g.board.childless != 0 {
			break
		}
		g.call5(unix.SYS_PPOLL, 0, 0, uintptr(unsafe.Pointer(&g.pause)), 0, 0)
	}
	for {
		g.call(unix.SYS_EXIT_GROUP, 1, 0, 0, 0)
	}
}
