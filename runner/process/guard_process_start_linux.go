package process

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// receive receives a message. It returns true if the message asks for a new process.
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

// start forks the process for the message. It returns true in the child.
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

// finishStart closes inherited descriptors after the first start, and leaves the working directory after the start of
// the target. If a new graceful finds the guard still in that directory, no target was started.
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

// closeOthers closes descriptors of graceful that the guard does not need: those that the target has inherited from the
// caller, and those of the Go runtime.
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

// closeRange closes the descriptors from one number up to, but not including, another.
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
