package process

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetsIgnored reports whether a start makes the new process ignore the signals of Spec.Ignored. If not, the caller
// itself must ignore these signals, and the process inherits that.
const SetsIgnored = true

// Children starts and reaps child processes of this process itself, without a guard.
type Children struct{ startTable }

// OpenChildren returns an empty Children. It maps the memory that this process and its forked children share.
func OpenChildren() (*Children, error) {
	memory, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(board{})), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("memory for child processes: %w", err)
	}
	return &Children{startTable{board: (*board)(unsafe.Pointer(&memory[0]))}}, nil
}

// Start starts a process for the command with the given id; 0 is the target. The process inherits the descriptors above
// 2 without FD_CLOEXEC, and those in KeptFDs. Its RLIMIT_NOFILE is that from the start of graceful, unless the limit of
// graceful was changed later.
//
// If execve(2) takes longer than startWithin, for example because a file system does not answer, Start returns the pid.
// StartOf then reports a later failure.
func (c *Children) Start(s Spec, id int) (pid int, err error) {
	p, err := s.parts()
	if err != nil {
		return 0, err
	}
	i := c.freeSlot(id)
	if i == maxSlots {
		return 0, unix.EAGAIN
	}
	b := newBlock(p.size())
	r := s.layOut(p, b)
	r.slot = uintptr(unsafe.Pointer(c.prepareSlot(i, id)))
	r.start()
	runtime.KeepAlive(b)
	if r.errno != 0 {
		c.board.slots[i].requested = 0
		r.failure.errno = r.errno
		return 0, r.failure.err()
	}
	if err := c.await(i, func() bool { return false }); err != nil {
		pid = int(c.board.slots[i].pid)
		c.Reap(pid)
		return 0, err
	}
	return int(c.board.slots[i].pid), nil
}

// Reap reaps a child that has ended, or that is exiting after a failed start.
func (c *Children) Reap(pid int) {
	reap(pid)
	c.freeSlotOf(pid)
}

// freeSlotOf makes the slot of a reaped process free, if the process has one.
func (c *Children) freeSlotOf(pid int) {
	if s := c.slotOf(pid); s != nil {
		s.requested, s.pid = 0, 0
	}
}

// startTable records the processes that were requested.
type startTable struct {
	board         *board
	pendingStarts []int // numbers of the slots whose starts may be unfinished
}

// freeSlot returns the number of the slot for a command: the first free one, or a new one after the valid slots;
// maxSlots if there is none. Id 0, the target, has slot 0. freeSlot does not read the memory after the valid slots,
// because requests may overlay that memory.
func (s *startTable) freeSlot(id int) (i int) {
	if id != 0 {
		for i = 1; i < s.slots() && atomic.LoadUint32(&s.board.slots[i].requested) != 0; {
			i++
		}
	}
	return i
}

// prepareSlot prepares a free slot for a command.
func (s *startTable) prepareSlot(i, id int) *slot {
	slot := &s.board.slots[i]
	*slot = slotFor(id)
	if i >= s.slots() {
		atomic.StoreUint32(&s.board.usedSlots, uint32(i)+1)
	}
	return slot
}

// slotFor returns a slot for a process that will be started.
func slotFor(id int) slot { return slot{requested: 1, id: int32(id)} }

func (s *startTable) slots() int { return int(atomic.LoadUint32(&s.board.usedSlots)) }

// slotOf returns the slot of a process that was started and not reaped yet, or nil.
func (s *startTable) slotOf(pid int) *slot {
	for i := range s.slots() {
		if slot := &s.board.slots[i]; pid != 0 && int(atomic.LoadInt32(&slot.pid)) == pid {
			return slot
		}
	}
	return nil
}

// StartOf returns the result of the start of an ended process. err is the reason of a failure. dirGone means that the
// directory of the process no longer existed, so that the process ran in an empty one, or has failed.
func (s *startTable) StartOf(pid int) (dirGone bool, err error) {
	slot := s.slotOf(pid)
	if slot == nil {
		return false, nil
	}
	if slot.failure.errno != 0 {
		err = slot.failure.err()
	}
	return slot.dirGone != 0, err
}

// startWithin is the maximum time that Start waits for execve(2). beginsWithin is the time for which Start waits longer
// if the child does not yet lead its group. That wait has a limit, too, because a child may be killed before it leads
// its group.
const startWithin, beginsWithin = 100 * time.Millisecond, time.Second

// await waits until the child of slot i has executed its program or has failed to, and returns the failure. The clock
// starts at the call. The limit is startWithin, or 0 while an earlier start is pending, and beginsWithin more while the
// child does not lead its group. After the limit the start is pending, and await returns nil.
//
// While there is no child, the limit does not end await. Instead, await calls parentEnded after the limit, again and
// again. If parentEnded returns true and the parent has not forked the child, await returns ErrGuardEnded.
func (s *startTable) await(i int, parentEnded func() bool) error {
	slot := &s.board.slots[i]
	late := time.Now()
	if !s.starting() {
		late = late.Add(startWithin)
	}
	for {
		word := atomic.LoadUint32(&slot.startFutex)
		if word&settled != 0 || atomic.LoadUint32(&slot.endStatus) != 0 {
			break
		}
		born, left := atomic.LoadInt32(&slot.pid) != 0, time.Until(late)
		if born && (word != 0 && left <= 0 || left < -beginsWithin) {
			s.pendingStarts = append(s.pendingStarts, i)
			return nil
		}
		if wokenAt(&slot.startFutex, word, max(left, time.Millisecond)) || born {
			continue
		}
		if parentEnded() && atomic.LoadInt32(&slot.pid) == 0 { // the parent may have forked the child just before its end
			return ErrGuardEnded
		}
	}
	if slot.failure.errno != 0 {
		return slot.failure.err()
	}
	return nil
}

// starting reports whether the start of an earlier process is still pending.
func (s *startTable) starting() bool {
	s.pendingStarts = slices.DeleteFunc(s.pendingStarts, func(i int) bool {
		slot := &s.board.slots[i]
		return slot.requested == 0 || atomic.LoadUint32(&slot.startFutex)&settled != 0 ||
			atomic.LoadUint32(&slot.endStatus) != 0
	})
	return len(s.pendingStarts) > 0
}

// wokenAt waits until a futex is woken or has another value, or until a signal interrupts the wait. It returns false
// only after a timeout.
func wokenAt(futex *uint32, value uint32, within time.Duration) bool {
	timeout := unix.NsecToTimespec(within.Nanoseconds())
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(futex)), futexWait, uintptr(value),
		uintptr(unsafe.Pointer(&timeout)), 0, 0)
	return errno != syscall.ETIMEDOUT
}

// start forks the child, which executes the program. Result and errno are those of the fork.
//
//go:norace
//go:nosplit
//go:noinline
func (r *request) start() {
	r.setMask(&allSignals, &r.parentMask)
	r.fork()
	if r.result == 0 && r.errno == 0 {
		r.become()
	}
	pid, errno := r.result, r.errno
	r.setMask(&r.parentMask, nil)
	r.result, r.errno = pid, errno
}

// err returns errno, wrapped in the exported error of the stage if there is one.
func (f failure) err() error {
	of := map[stage]error{stageCgroup: ErrCgroup, stageDir: ErrDir, stageInterpreter: ErrInterpreter}[f.stage]
	if of == nil {
		return f.errno
	}
	return fmt.Errorf("%w: %w", of, f.errno)
}

// ErrGuardEnded means that the guard has ended and has not started the process.
var ErrGuardEnded = errors.New("the guard has ended")
