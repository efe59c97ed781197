package process

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// receive reads messages until one asks for a new process, and then returns true. It returns false if no message is
// left. If graceful has closed its end of the link, receive sets link to none.
//
//go:norace
//go:nosplit
func (g *guardProcess) receive() bool {
	for {
		if !g.call(unix.SYS_READ, g.link, uintptr(unsafe.Pointer(&g.message)), unsafe.Sizeof(g.message), 0) {
			return false
		}
		if g.result == 0 {
			g.link = none
			g.poll[0].fd = -1
			return false
		}
		if g.message.slot < maxSlots {
			return true
		}
	}
}

// start forks the process that the received message asks for. It returns true only in the child. If the fork fails, it
// records the reason in the slot.
//
//go:norace
//go:nosplit
func (g *guardProcess) start() (child bool) {
	block := unsafe.Add(unsafe.Pointer(g.board), g.message.at)
	g.request = *(*request)(block)
	r := &g.request
	s := &g.board.slots[g.message.slot]
	r.block, r.slot = uintptr(block), uintptr(unsafe.Pointer(s))
	g.board.childless = 0
	r.fork()
	if r.errno == 0 && r.result == 0 {
		g.call(unix.SYS_CLOSE, g.link, 0, 0, 0)
		g.restorePriority()
		return true
	}
	if r.errno != 0 {
		s.failure.stage, s.failure.errno = r.failure.stage, r.errno
		r.settle()
		g.collect() // sets childless if there is no child
	}
	return false
}

// finishStart is called in the guard after each start, even if the fork has failed. After the first start, the guard
// closes inherited descriptors. After the start of the target, the guard leaves the working directory, if it may. A new
// graceful inherits the working directory of the guard, and so finds out whether it must use the recorded directory.
//
//go:norace
//go:nosplit
func (g *guardProcess) finishStart() {
	if !g.othersClosed {
		g.othersClosed = true
		g.closeOthers()
	}
	if g.mayLeaveDir && g.message.slot == 0 {
		g.call(unix.SYS_CHDIR, uintptr(unsafe.Pointer(&g.root)), 0, 0, 0)
	}
}

// closeOthers closes the descriptors above 2 that are not in keptFDs: those that the target has inherited from
// graceful's caller, and those that only graceful needs.
//
//go:norace
//go:nosplit
func (g *guardProcess) closeOthers() {
	from := uintptr(3)
	for i := range g.keptFDs {
		if g.keptFDs[i] == endOfFDs {
			break
		}
		fd := uintptr(g.keptFDs[i])
		g.closeRange(from, fd)
		from = fd + 1
	}
	g.closeRange(from, none)
}

// closeRange closes the descriptors from, from+1, and so on up to to-1. If to is none, there is no upper limit. Without
// close_range(2), closeRange closes only those below 65536.
//
//go:norace
//go:nosplit
func (g *guardProcess) closeRange(from, to uintptr) {
	if from >= to {
		return
	}
	last := to - 1
	if to == none {
		last = 1<<32 - 1
	}
	if g.call(unix.SYS_CLOSE_RANGE, from, last, 0, 0) { // Linux 5.9; a seccomp filter may refuse it
		return
	}
	for fd := from; fd < to && fd < 1<<16; fd++ {
		g.call(unix.SYS_CLOSE, fd, 0, 0, 0)
	}
}
