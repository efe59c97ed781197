package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// collectLimit is the maximum number of ends that one call of collect handles. Between two of these calls, the main
// loop of the guard (run) reads messages.
var collectLimit = 1 << 10

// maxSilentTurns is the number of calls of collectAll after which the guard notifies graceful of a change, even if
// collect still reaches its limit. Each notification is expensive, because graceful reads /proc for each process that
// is not reaped yet.
const maxSilentTurns = 16

// collect records on the board which processes have ended and which signal has suspended the target, and reaps orphans.
// It returns true if it has found a change. Then it notifies graceful, unless silent is set.
//
//go:norace
//go:nosplit
func (g *guardProcess) collect() (changed bool) {
	changed = g.recordSuspension()
	before, n := g.board.childless, 0
	for n < collectLimit && g.handleNext() {
		n++
	}
	g.limitReached = n == collectLimit
	if n >= ManyEnds && !g.triedPriority {
		g.raisePriority()
	}
	if changed = changed || n > 0 || g.board.childless != before; changed && !g.silent {
		g.notify()
	}
	return changed
}

// ManyEnds is a number of ended processes. A guard or a graceful that finds so many at once gets too little CPU time,
// and raises its priority.
const ManyEnds = 64

// highest is the nice value of the highest priority.
const highest = -20

// raisePriority raises the priority of the guard, if the guard may do so (CAP_SYS_NICE). With its normal share of the
// time, the guard cannot reap the orphans of a hundred forking processes fast enough.
//
//go:norace
//go:nosplit
func (g *guardProcess) raisePriority() {
	g.triedPriority = true
	if !g.call(unix.SYS_GETPRIORITY, unix.PRIO_PROCESS, 0, 0, 0) {
		return
	}
	g.oldNice = 20 - g.result
	nice := highest
	g.raised = g.call(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, uintptr(nice), 0)
}

// restorePriority restores the priority in a child of the guard.
//
//go:norace
//go:nosplit
func (g *guardProcess) restorePriority() {
	if g.raised {
		g.call(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, g.oldNice, 0)
	}
}

// collectAll calls collect in the guard's loop, and notifies graceful of changes at most maxSilentTurns calls later.
// After a change it also reaps the orphans that another zombie hides, because graceful reads /proc for each of them.
//
//go:norace
//go:nosplit
func (g *guardProcess) collectAll() {
	g.silent = true
	changed := g.collect()
	g.silent = false
	if changed && g.zombiesHidden {
		g.reapHidden()
	}
	g.changePending = g.changePending || changed
	if g.turns++; g.changePending && (!g.limitReached || g.turns >= maxSilentTurns) {
		g.changePending, g.turns = false, 0
		g.notify()
	}
}

// handleNext handles the ended child that waitid(2) returns. It returns false if there is none, or if the end of that
// child was recorded earlier. In the second case the child may hide others.
//
//go:norace
//go:nosplit
func (g *guardProcess) handleNext() bool {
	if !g.queryChild(unix.P_ALL, 0, unix.WEXITED|unix.WNOWAIT) {
		if g.errno == syscall.ECHILD {
			g.board.childless = 1
		} else {
			g.zombiesHidden = true // waitid(2) is refused: look for zombies later
		}
		return false
	}
	if g.info.pid == 0 {
		return false
	}
	handled := g.handle(uintptr(g.info.pid))
	g.zombiesHidden = g.zombiesHidden || !handled
	return handled
}

// reapHidden reaps the orphans that a zombie hides. It reads the list of children until it has reaped no further
// orphan, because the kernel may omit children from a list while others are reaped.
//
//go:norace
//go:nosplit
func (g *guardProcess) reapHidden() {
	for n := g.board.orphanCount - 1; n != g.board.orphanCount; {
		n = g.board.orphanCount
		g.forEachChild(reapChild)
	}
}

// codeKilled has the value of CLD_KILLED (sigaction(2)).
const codeKilled = 2

// handle handles the end of the child that queryChild has found. It reaps a child without a slot: an orphan or
// graceful. For a child with a slot it records the end on the board, and returns false if the end was recorded earlier.
//
//go:norace
//go:nosplit
func (g *guardProcess) handle(pid uintptr) bool {
	i := g.slotOf(pid)
	if i == noSlot {
		if pid == g.leader {
			g.killed = uint32(g.info.code) == codeKilled && uint32(g.info.status) == uint32(unix.SIGKILL)
		}
		g.reap(pid)
		g.board.orphanCount++
		return true
	}
	s := &g.board.slots[i]
	if s.endStatus != 0 {
		return false
	}
	if i == 0 {
		g.board.targetUsage = g.usage
	}
	if i == 0 && g.board.resumeRequested != 0 {
		g.signal(uintptr(unix.SIGCONT))
	}
	s.endStatus = hasEnded | uint32(g.info.code)<<8 | uint32(g.info.status)
	return true
}

// queryChild calls waitid(2). It returns false after an error. info.pid is 0 if no child has changed.
//
//go:norace
//go:nosplit
func (g *guardProcess) queryChild(kind, id, options uintptr) bool {
	g.info.pid = 0
	g.call5(unix.SYS_WAITID, kind, id, uintptr(unsafe.Pointer(&g.info)), options|unix.WNOHANG,
		uintptr(unsafe.Pointer(&g.usage)))
	return g.errno == 0
}

// reap reaps a child. It returns false if the child has not ended: after a failed start, a child may still be exiting.
//
//go:norace
//go:nosplit
func (g *guardProcess) reap(pid uintptr) bool {
	return !g.call(unix.SYS_WAIT4, pid, 0, unix.WNOHANG, 0) || g.result != 0
}

// recordSuspension records on the board which signal has suspended the target. It returns false if there is no new
// suspension, or if graceful has not asked for the record.
//
//go:norace
//go:nosplit
func (g *guardProcess) recordSuspension() bool {
	target := uintptr(g.board.slots[0].pid)
	if g.board.watchRequested == 0 || target == 0 || !g.queryChild(unix.P_PID, target, unix.WSTOPPED) || g.info.pid == 0 {
		return false
	}
	g.board.suspendSignal = uint32(g.info.status)
	return true
}

// slotOf returns the number of the slot of a process, or noSlot.
//
//go:norace
//go:nosplit
func (g *guardProcess) slotOf(pid uintptr) uint32 {
	for i := range g.board.usedSlots {
		if uintptr(g.board.slots[i].pid) == pid {
			return i
		}
	}
	return noSlot
}

// performRequests kills and reaps children as graceful has requested on the board.
//
//go:norace
//go:nosplit
func (g *guardProcess) performRequests() {
	if g.board.killRequested != 0 {
		g.board.killRequested = 0
		g.forEachChild(killMember)
	}
	reaped := false
	for i := range g.board.usedSlots {
		s := &g.board.slots[i]
		if s.reapRequested == 0 || !g.reap(uintptr(s.pid)) {
			continue
		}
		s.pid, s.endStatus, s.failure.errno = 0, 0, 0
		s.reapRequested, s.requested = 0, 0
		reaped = true
	}
	if reaped {
		g.zombiesHidden = false
		if !g.collect() {
			g.notify() // the tree may be empty now
		}
	}
}

// childAction is what apply does with one child of the guard. apply never kills graceful, which may be such a child.
type childAction int

const (
	reapChild  childAction = iota // reap an ended orphan or graceful; record the end of any other child
	killMember                    // kill the child, unless the child is a command
	killChild                     // kill the child
)

// forEachChild performs an action for each child. If /proc does not list the children, it does so only for the
// processes that the guard has started.
//
//go:norace
//go:nosplit
func (g *guardProcess) forEachChild(action childAction) {
	if g.childrenFD == none {
		for i := range g.board.usedSlots {
			if pid := g.board.slots[i].pid; pid != 0 {
				g.apply(action, uintptr(pid))
			}
		}
		return
	}
	g.call(unix.SYS_LSEEK, g.childrenFD, 0, 0, 0)
	g.childPID = 0
	for g.call(unix.SYS_READ, g.childrenFD, uintptr(unsafe.Pointer(&g.text)), unsafe.Sizeof(g.text), 0) {
		size := g.result
		if size == 0 {
			break
		}
		for i := range size {
			if digit := uintptr(g.text[i]) - '0'; digit < 10 {
				g.childPID = g.childPID*10 + digit
			} else if g.childPID != 0 {
				g.apply(action, g.childPID)
				g.childPID = 0
			}
		}
	}
}

// apply performs an action for one child.
//
//go:norace
//go:nosplit
func (g *guardProcess) apply(action childAction, pid uintptr) {
	i := g.slotOf(pid)
	switch {
	case action == reapChild && i == noSlot && pid != g.leader:
		if g.call(unix.SYS_WAIT4, pid, 0, unix.WNOHANG, 0) && g.result != 0 {
			g.board.orphanCount++
		}
	case action == reapChild:
		if g.queryChild(unix.P_PID, pid, unix.WEXITED|unix.WNOWAIT) && g.info.pid != 0 {
			g.handle(pid)
		}
	case pid == g.leader:
	case action == killChild || i == noSlot || g.board.slots[i].id == 0:
		g.call(unix.SYS_KILL, pid, uintptr(unix.SIGKILL), 0, 0)
	}
}
