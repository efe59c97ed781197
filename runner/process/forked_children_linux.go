package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// collectLimit is the maximum number of ends that one call of collect handles. After each call the guard looks for
// messages. It notifies graceful only after some calls, because graceful reads /proc for each process that is not
// reaped yet.
var collectLimit = 1 << 10

// maxTurns is the maximum number of consecutive calls of collect that reach their limit without a notification of
// graceful.
const maxTurns = 16

// collect records ends of processes on the board, and reaps orphans. It reports whether anything has changed.
//
//go:norace
//go:nosplit
func (g *guard) collect() (changed bool) {
	changed = g.suspension()
	before, n := g.board.childless, 0
	for n < collectLimit && g.handleNext() {
		n++
	}
	g.more = n == collectLimit
	if n >= ManyEnds && !g.triedPriority {
		g.raisePriority()
	}
	if changed = changed || n > 0 || g.board.childless != before; changed && !g.silent {
		g.tell()
	}
	return changed
}

// ManyEnds is the number of orphans ending at once that shows that the guard gets too little CPU time to reap them.
const ManyEnds = 64

// highest is the nice value of the highest priority.
const highest = -20

// raisePriority raises the priority of the guard, if the guard may do so (CAP_SYS_NICE). With its normal share of the
// time, the guard cannot reap the orphans of a hundred forking processes fast enough.
//
//go:norace
//go:nosplit
func (g *guard) raisePriority() {
	g.triedPriority = true
	if !g.call(unix.SYS_GETPRIORITY, unix.PRIO_PROCESS, 0, 0, 0) {
		return
	}
	g.nice = 20 - g.result
	nice := highest
	g.raised = g.call(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, uintptr(nice), 0)
}

// restorePriority restores the priority in a child of the guard.
//
//go:norace
//go:nosplit
func (g *guard) restorePriority() {
	if g.raised {
		g.call(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, g.nice, 0)
	}
}

// collectAll calls collect in the guard's loop. Before it notifies graceful, it reaps the orphans that another zombie
// hides, because graceful reads /proc for each of them.
//
//go:norace
//go:nosplit
func (g *guard) collectAll() {
	g.silent = true
	changed := g.collect()
	g.silent = false
	if changed && g.hidden {
		g.reapHidden()
	}
	g.untold = g.untold || changed
	if g.turns++; g.untold && (!g.more || g.turns >= maxTurns) {
		g.untold, g.turns = false, 0
		g.tell()
	}
}

// handleNext handles the next child that has ended. It returns false if there is none, or if graceful has not handled
// it yet.
//
//go:norace
//go:nosplit
func (g *guard) handleNext() bool {
	if !g.look(unix.P_ALL, 0, unix.WEXITED|unix.WNOWAIT) {
		if g.errno == syscall.ECHILD {
			g.board.childless = 1
		} else {
			g.hidden = true // look for hidden orphans later
		}
		return false
	}
	if g.info.pid == 0 {
		return false
	}
	handled := g.handle(uintptr(g.info.pid))
	g.hidden = g.hidden || !handled
	return handled
}

// reapHidden reaps the orphans that a zombie hides. It repeats, because the kernel lists fewer children while others
// are reaped.
//
//go:norace
//go:nosplit
func (g *guard) reapHidden() {
	for n := g.board.orphans - 1; n != g.board.orphans; {
		n = g.board.orphans
		g.each(reapChild)
	}
}

// codeKilled has the value of CLD_KILLED (sigaction(2)).
const codeKilled = 2

// handle handles the end of the child that look has found. It returns false if graceful has not handled that end yet.
//
//go:norace
//go:nosplit
func (g *guard) handle(pid uintptr) bool {
	i := g.slotOf(pid)
	if i == noSlot {
		if pid == g.leader {
			g.killed = uint32(g.info.code) == codeKilled && uint32(g.info.status) == uint32(unix.SIGKILL)
		}
		g.reap(pid)
		g.board.orphans++
		return true
	}
	s := &g.board.slots[i]
	if s.end != 0 {
		return false
	}
	if i == 0 {
		g.board.usage = g.used
	}
	if i == 0 && g.board.resume != 0 {
		g.signal(uintptr(unix.SIGCONT))
	}
	s.end = hasEnded | uint32(g.info.code)<<8 | uint32(g.info.status)
	return true
}

// look calls waitid(2). It returns false after an error. info.pid is 0 if no child has changed.
//
//go:norace
//go:nosplit
func (g *guard) look(kind, id, options uintptr) bool {
	g.info.pid = 0
	g.call5(unix.SYS_WAITID, kind, id, uintptr(unsafe.Pointer(&g.info)), options|unix.WNOHANG,
		uintptr(unsafe.Pointer(&g.used)))
	return g.errno == 0
}

// reap reaps a child. It returns false if the child has not ended. A child may still be exiting after a failed start.
//
//go:norace
//go:nosplit
func (g *guard) reap(pid uintptr) bool {
	return !g.call(unix.SYS_WAIT4, pid, 0, unix.WNOHANG, 0) || g.result != 0
}

// suspension records the signal that has suspended the target on the board.
//
//go:norace
//go:nosplit
func (g *guard) suspension() bool {
	target := uintptr(g.board.slots[0].pid)
	if g.board.watched == 0 || target == 0 || !g.look(unix.P_PID, target, unix.WSTOPPED) || g.info.pid == 0 {
		return false
	}
	g.board.suspended = uint32(g.info.status)
	return true
}

// slotOf returns the slot of a process, or noSlot.
//
//go:norace
//go:nosplit
func (g *guard) slotOf(pid uintptr) uint32 {
	for i := range g.board.used {
		if uintptr(g.board.slots[i].pid) == pid {
			return i
		}
	}
	return noSlot
}

// perform carries out the requests of graceful on the board.
//
//go:norace
//go:nosplit
func (g *guard) perform() {
	if g.board.kill != 0 {
		g.board.kill = 0
		g.each(killMember)
	}
	reaped := false
	for i := range g.board.used {
		s := &g.board.slots[i]
		if s.reap == 0 || !g.reap(uintptr(s.pid)) {
			continue
		}
		s.pid, s.end, s.failed.errno = 0, 0, 0
		s.reap, s.asked = 0, 0
		reaped = true
	}
	if reaped {
		g.hidden = false
		if !g.collect() {
			g.tell() // the tree may be empty now
		}
	}
}

// These constants are the values for the parameter do of the method each.
const (
	reapChild  = iota // reap it if it has ended and is an orphan
	killMember        // kill it unless it is a command
	killChild         // kill it
)

// each calls do for each child. Without /proc, it calls do only for the processes that the guard has started.
//
//go:norace
//go:nosplit
func (g *guard) each(do int) {
	if g.children == none {
		for i := range g.board.used {
			if pid := g.board.slots[i].pid; pid != 0 {
				g.do(do, uintptr(pid))
			}
		}
		return
	}
	g.call(unix.SYS_LSEEK, g.children, 0, 0, 0)
	g.n = 0
	for g.call(unix.SYS_READ, g.children, uintptr(unsafe.Pointer(&g.text)), unsafe.Sizeof(g.text), 0) {
		size := g.result
		if size == 0 {
			break
		}
		for i := range size {
			if digit := uintptr(g.text[i]) - '0'; digit < 10 {
				g.n = g.n*10 + digit
			} else if g.n != 0 {
				g.do(do, g.n)
				g.n = 0
			}
		}
	}
}

// do reaps or kills one child, as the value do requires.
//
//go:norace
//go:nosplit
func (g *guard) do(what int, pid uintptr) {
	i := g.slotOf(pid)
	switch {
	case what == reapChild && i == noSlot && pid != g.leader:
		if g.call(unix.SYS_WAIT4, pid, 0, unix.WNOHANG, 0) && g.result != 0 {
			g.board.orphans++
		}
	case what == reapChild:
		if g.look(unix.P_PID, pid, unix.WEXITED|unix.WNOWAIT) && g.info.pid != 0 {
			g.handle(pid)
		}
	case pid == g.leader:
	case what == killChild || i == noSlot || g.board.slots[i].id == 0:
		g.call(unix.SYS_KILL, pid, uintptr(unix.SIGKILL), 0, 0)
	}
}
