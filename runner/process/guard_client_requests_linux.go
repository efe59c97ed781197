package process

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/runner/machine"
)

// Start makes the guard start a process. It behaves like Children.Start, but only the first process inherits
// descriptors that the guard then closes (see finishStart). If the guard does not fork within forksWithin, Start kills
// the guard. If the guard has ended before the fork, the error is ErrGuardEnded.
func (g *Guard) Start(s Spec, id int) (pid int, err error) {
	p, err := s.parts()
	if err != nil {
		return 0, err
	}
	i, at, block, err := g.reserveBlock(p.size(), id)
	if err != nil {
		return 0, err
	}
	s.layOut(p, block)
	slot := g.prepareSlot(i, id)
	slot.block, slot.replacedOutputs = at, s.replaced()
	switch err := g.send(uint32(i), at); err {
	case nil:
	case unix.EPIPE, unix.ECONNRESET:
		slot.requested = 0
		return 0, ErrGuardEnded
	default:
		slot.requested = 0
		return 0, fmt.Errorf("asking the guard: %w", err)
	}
	asked := time.Now()
	err = g.await(i, func() bool {
		if g.Ended() {
			return true
		}
		_ = unix.Kill(g.pid, unix.SIGCONT) // the guard may be suspended
		return time.Since(asked) > forksWithin && g.killHung()
	})
	switch pid = int(atomic.LoadInt32(&slot.pid)); {
	case pid == 0:
		slot.requested = 0
		return 0, err
	case err != nil:
		g.Reap(pid)
		return 0, err
	}
	if id == 0 {
		g.watchTarget()
	}
	return pid, nil
}

// forksWithin is the maximum time that the guard may take to fork. A guard in a frozen cgroup or under a debugger may
// never answer.
const forksWithin = 5 * time.Second

// killHung kills a guard that does not answer, and reports whether the guard has ended. A frozen cgroup of version 1
// delays that end.
func (g *Guard) killHung() bool {
	_ = unix.Kill(g.pid, unix.SIGKILL)
	for late := time.Now().Add(answerWithin); !g.Ended() && time.Now().Before(late); {
		time.Sleep(time.Millisecond)
	}
	return g.gone
}

// watchTarget opens a pidfd of the target. The caller makes sure that the target is not reaped yet.
func (g *Guard) watchTarget() {
	if pid := int(atomic.LoadInt32(&g.board.slots[0].pid)); pid > 0 {
		g.targetFD, _ = unix.PidfdOpen(pid, 0) // -1 before Linux 5.3
	}
}

// awaitTargetEnd waits until the guard has recorded the end of the target, if the target has ended. A signal that
// graceful handles afterwards is then for the survivors. awaitTargetEnd waits at most answerWithin, and not at all
// without a pidfd of the target.
func (g *Guard) awaitTargetEnd() {
	if g.targetFD < 0 {
		return
	}
	fds := []unix.PollFd{{Fd: int32(g.targetFD), Events: unix.POLLIN}}
	if n, _ := unix.Poll(fds, 0); n <= 0 {
		return
	}
	for late := time.Now().Add(answerWithin); atomic.LoadUint32(&g.board.slots[0].endStatus) == 0; {
		if time.Now().After(late) || g.Ended() {
			return
		}
		time.Sleep(20 * time.Microsecond)
	}
}

// reserveBlock returns the number i of a free slot for a command, and a free block b, which has the offset from. The
// block comes after all blocks of pending starts, because the children of those starts may still read them. The error
// is E2BIG if the size is too large, EAGAIN if no slot or no room is free, or it wraps ENOMEM.
func (g *Guard) reserveBlock(size uintptr, id int) (i int, from uint32, b *block, err error) {
	if size > blocksSize/4 {
		return 0, 0, nil, unix.E2BIG
	}
	i = g.freeSlot(id)
	last := min(max(g.slots(), i+1)+spareSlots, maxSlots)
	from = uint32(unsafe.Offsetof(g.board.slots) + uintptr(last)*unsafe.Sizeof(slot{}))
	first := from // offset of the first block in use
	if g.starting() {
		from = max(from, g.board.blocksEnd)
	}
	for _, j := range g.pendingStarts {
		first = min(first, g.board.slots[j].block)
	}
	from = (from + 7) &^ 7
	to := from + uint32(size)
	inUse := unsafe.Offsetof(g.board.slots) + uintptr(i+1)*unsafe.Sizeof(slot{})
	if i == maxSlots || int(to) > len(g.mapping) || inUse > uintptr(first) {
		return 0, 0, nil, unix.EAGAIN
	}
	if err := g.extend(to); err != nil {
		return 0, 0, nil, err
	}
	g.board.blocksEnd = to
	return i, from, &block{data: g.mapping[from:to]}, nil
}

// answerWithin is the maximum time to wait until the guard has recorded the end of the target, or until a killed guard
// has ended.
const answerWithin = 100 * time.Millisecond

// Peek returns a process that the guard has started and that has ended. It behaves like Children.Peek.
func (g *Guard) Peek() (pid int, ending machine.Ending, childless bool) {
	g.awaitTargetEnd()
	busy := false
	for i := range g.slots() {
		s := &g.board.slots[i]
		if atomic.LoadUint32(&s.requested) == 0 {
			continue
		}
		busy = true
		if end := atomic.LoadUint32(&s.endStatus); end != 0 && atomic.LoadUint32(&s.reapRequested) == 0 {
			return int(s.pid), endingOf(end), false
		}
	}
	return 0, machine.Ending{}, !busy && atomic.LoadUint32(&g.board.childless) != 0
}

func endingOf(end uint32) machine.Ending {
	status := int(end & 0xff)
	if end>>8&0xff == exited {
		return machine.Ending{Code: status}
	}
	return machine.Ending{Signal: status}
}

// Reap makes the guard reap a process that the guard has started, once the process has ended.
func (g *Guard) Reap(pid int) {
	s := g.slotOf(pid)
	if s == nil {
		return
	}
	if s == &g.board.slots[0] && g.targetFD >= 0 {
		unix.Close(g.targetFD)
		g.targetFD = -1
	}
	atomic.StoreUint32(&s.reapRequested, 1)
	g.wakeGuard()
}

// UsageOf returns the resources that the target has used, or nil if pid is not the target or the target has not ended.
func (g *Guard) UsageOf(pid int) *machine.Usage {
	if s := g.slotOf(pid); s == nil || s.id != 0 || s.endStatus == 0 {
		return nil
	}
	return usage(g.board.targetUsage)
}

// RecordSuspensions makes the guard record which signals suspend the target.
func (g *Guard) RecordSuspensions() { atomic.StoreUint32(&g.board.watchRequested, 1) }

// SuspendedBy returns the last signal that has suspended the target since the previous call, or 0.
func (g *Guard) SuspendedBy(int) syscall.Signal {
	return syscall.Signal(atomic.SwapUint32(&g.board.suspendSignal, 0))
}

// KillChildren makes the guard kill the target and the orphans among its children, but no commands.
func (g *Guard) KillChildren() {
	atomic.StoreUint32(&g.board.killRequested, 1)
	g.wakeGuard()
}

// Orphans returns the number of orphans that the guard has reaped since the previous call. The first call counts from
// StartGuard or OpenGuard. A new graceful that has ended and that the guard reaps counts as an orphan, too.
func (g *Guard) Orphans() int {
	now := atomic.LoadUint32(&g.board.orphanCount)
	defer func() { g.seenOrphans = now }()
	return int(now - g.seenOrphans)
}

// Started returns the processes that the guard has started and not reaped. It maps the id of a command (0: the target)
// to a pid.
func (g *Guard) Started() map[int]int {
	started := map[int]int{}
	for i := range g.slots() {
		if s := &g.board.slots[i]; s.requested != 0 && s.pid != 0 {
			started[int(s.id)] = int(s.pid)
		}
	}
	return started
}

// Replaced reports which outputs of a command, or of the target (0), differ from those of graceful. It returns false
// for a command without a process.
func (g *Guard) Replaced(id int) (stdout, stderr bool) {
	for i := range g.slots() {
		if s := &g.board.slots[i]; s.requested != 0 && s.pid != 0 && int(s.id) == id {
			return s.replacedOutputs&replacedStdout != 0, s.replacedOutputs&replacedStderr != 0
		}
	}
	return false, false
}

// replaced returns the value of replacedOutputs in the slot of the process.
func (s Spec) replaced() (outputs uint32) {
	if s.Stdout != 0 {
		outputs |= replacedStdout
	}
	if s.Stderr != 0 {
		outputs |= replacedStderr
	}
	return outputs
}

// ContinueAtEnd sets whether the guard sends SIGCONT to this process when the target ends.
func (g *Guard) ContinueAtEnd(wanted bool) {
	to := uint32(0)
	if wanted {
		to = 1
	}
	atomic.StoreUint32(&g.board.resumeRequested, to)
}
