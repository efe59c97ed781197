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

// Start has the guard start a process, for the command with an id; 0 is the target.
func (g *Guard) Start(s Spec, id int) (pid int, err error) {
	p, err := s.parts()
	if err != nil {
		return 0, err
	}
	at, block, err := g.room(p.size(), id)
	if err != nil {
		return 0, err
	}
	var report [2]int // closed by execve(2)
	if err := unix.Pipe2(report[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer unix.Close(report[0])
	s.layOut(p, block)
	slot := &g.board.slots[at]
	*slot = slotFor(id)
	if at >= g.slots() {
		atomic.StoreUint32(&g.board.used, uint32(at)+1)
	}
	err = g.send(uint32(at), g.board.from, report[1])
	unix.Close(report[1])
	if err != nil {
		slot.asked = 0
	}
	switch err {
	case nil:
	case unix.EPIPE, unix.ECONNRESET:
		return 0, ErrGuardEnded
	default:
		return 0, fmt.Errorf("asking the guard: %w", err)
	}
	failed := g.result(report[0])
	pid = int(atomic.LoadInt32(&slot.pid))
	slot.executed = 1
	switch {
	case pid == 0 && slot.failed.errno != 0:
		err = slot.failed.err()
		slot.asked = 0
	case pid == 0:
		slot.asked = 0
		return 0, ErrGuardEnded
	case failed != nil:
		g.Reap(pid)
		return 0, failed
	}
	if id == 0 {
		g.watchTarget()
	}
	return pid, err
}

// watchTarget opens a pidfd of the target, which is not reaped yet.
func (g *Guard) watchTarget() {
	if pid := int(atomic.LoadInt32(&g.board.slots[0].pid)); pid > 0 {
		g.target, _ = unix.PidfdOpen(pid, 0) // -1 before Linux 5.3
	}
}

// awaitMark waits until the guard has marked the end of the target, if the target has ended. A signal that comes after
// the end is for survivors.
func (g *Guard) awaitMark() {
	if g.target < 0 {
		return
	}
	fds := []unix.PollFd{{Fd: int32(g.target), Events: unix.POLLIN}}
	if n, _ := unix.Poll(fds, 0); n <= 0 {
		return
	}
	for late := time.Now().Add(answerWithin); atomic.LoadUint32(&g.board.slots[0].end) == 0; {
		if time.Now().After(late) || g.Ended() {
			return
		}
		time.Sleep(20 * time.Microsecond)
	}
}

// slotFor returns a slot for a process that is yet to be started.
func slotFor(id int) slot { return slot{asked: 1, id: int32(id)} }

// room returns a free slot, and a block of a size.
func (g *Guard) room(size uintptr, id int) (index int, b *block, err error) {
	if size > blocksSize/4 {
		return 0, nil, unix.E2BIG
	}
	if id != 0 {
		index = 1
		for index < maxSlots && atomic.LoadUint32(&g.board.slots[index].asked) != 0 {
			index++
		}
	}
	last := min(max(g.slots(), index+1)+spareSlots, maxSlots)
	from := uint32(unsafe.Offsetof(g.board.slots) + uintptr(last)*unsafe.Sizeof(slot{}))
	if g.hung != 0 {
		from = max(from, g.board.to)
	}
	from = (from + 7) &^ 7
	to := from + uint32(size)
	inUse := unsafe.Offsetof(g.board.slots) + uintptr(index+1)*unsafe.Sizeof(slot{})
	if index == maxSlots || int(to) > len(g.mapped) || g.hung != 0 && inUse > uintptr(g.hung) {
		return 0, nil, unix.EAGAIN
	}
	if err := g.extend(to); err != nil {
		return 0, nil, err
	}
	g.board.from, g.board.to = from, to
	return index, &block{data: g.mapped[from:to]}, nil
}

// answerWithin is how long the guard may take before it is taken for suspended.
const answerWithin = 100 * time.Millisecond

// result waits until the child has executed its program or failed to. It continues a guard that was suspended.
func (g *Guard) result(report int) error {
	for {
		fds := []unix.PollFd{{Fd: int32(report), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(answerWithin.Milliseconds()))
		if n > 0 || err != nil && err != unix.EINTR {
			return readFailure(report)
		}
		if g.isChild {
			_ = unix.Kill(g.pid, unix.SIGCONT)
		}
	}
}

// Peek looks for a process of the guard that has ended, as the function Peek does.
func (g *Guard) Peek() (pid int, ending machine.Ending, childless bool) {
	g.awaitMark()
	busy := false
	for i := range g.slots() {
		s := &g.board.slots[i]
		if atomic.LoadUint32(&s.asked) == 0 {
			continue
		}
		busy = true
		if end := atomic.LoadUint32(&s.end); end != 0 && atomic.LoadUint32(&s.reap) == 0 {
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

// slotOf returns the slot of a process that the guard has started and not reaped, or nil.
func (g *Guard) slotOf(pid int) *slot {
	for i := range g.slots() {
		if s := &g.board.slots[i]; pid != 0 && int(atomic.LoadInt32(&s.pid)) == pid {
			return s
		}
	}
	return nil
}

// Reap has the guard reap a process that Peek has returned.
func (g *Guard) Reap(pid int) {
	s := g.slotOf(pid)
	if s == nil {
		return
	}
	if s == &g.board.slots[0] && g.target >= 0 {
		unix.Close(g.target)
		g.target = -1
	}
	atomic.StoreUint32(&s.reap, 1)
	g.wake()
}

// UsageOf returns what the target has used, if pid is the target and has ended.
func (g *Guard) UsageOf(pid int) *machine.Usage {
	if s := g.slotOf(pid); s == nil || s.id != 0 || s.end == 0 {
		return nil
	}
	return usage(g.board.usage)
}

// Watch has the guard report by which signals the target is suspended.
func (g *Guard) Watch() { atomic.StoreUint32(&g.board.watched, 1) }

// SuspendedBy returns the signal that has suspended the target since the last call, or 0.
func (g *Guard) SuspendedBy(int) syscall.Signal {
	return syscall.Signal(atomic.SwapUint32(&g.board.suspended, 0))
}

// KillChildren has the guard kill its children, except commands.
func (g *Guard) KillChildren() {
	atomic.StoreUint32(&g.board.kill, 1)
	g.wake()
}

// Orphans returns how many orphans the guard has reaped since the last call.
func (g *Guard) Orphans() int {
	now := atomic.LoadUint32(&g.board.orphans)
	defer func() { g.orphans = now }()
	return int(now - g.orphans)
}

// Started returns the processes that the guard has started and not reaped, by the ids of their commands.
func (g *Guard) Started() map[int]int {
	started := map[int]int{}
	for i := range g.slots() {
		if s := &g.board.slots[i]; s.asked != 0 && s.pid != 0 {
			started[int(s.id)] = int(s.pid)
		}
	}
	return started
}

// ContinueAtEnd says whether the guard is to continue this process when the target ends.
func (g *Guard) ContinueAtEnd(wanted bool) {
	to := uint32(0)
	if wanted {
		to = 1
	}
	atomic.StoreUint32(&g.board.resume, to)
}
