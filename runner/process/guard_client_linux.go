package process

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
	"graceful/runner/procfs"
)

// Guard represents the guard to graceful. The guard starts the target and the commands, and is their parent.
type Guard struct {
	startTable
	pid         int
	isChild     bool   // the guard is a child of graceful; else it is the parent, and graceful has replaced a killed one
	linkFD      int    // graceful's end of the link
	memoryFD    int    // descriptor of the board
	mapping     []byte // the mapped memory: the board, and blocks after it
	size        uint32 // number of bytes of mapping that exist
	gone        bool   // the guard has ended
	seenOrphans uint32 // value of orphanCount at the last call of Orphans
	targetFD    int    // pidfd of the target; negative: none
}

// Succession is the data from which the guard starts a new graceful after the death of the old one.
type Succession struct {
	KeptFDs     []int            // descriptors that the guard keeps for a new graceful or a command
	MayLeaveDir bool             // the guard leaves the working directory when the target has started
	Forwarded   []syscall.Signal // signals that the guard forwards to graceful
	// Successor returns the Spec of a new graceful, which inherits both descriptors and passes them to OpenGuard.
	Successor func(link, memory int) Spec
}

// StartGuard forks the guard. From then on, this process leads the run, as after Lead.
func StartGuard(s Succession) (*Guard, error) {
	memory, err := memoryFile()
	if err != nil {
		return nil, fmt.Errorf("memory for the guard: %w", err)
	}
	g, err := openBoard(memory)
	if err != nil {
		return nil, errors.Join(err, unix.Close(memory))
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a pair of sockets: %w", err), g.release())
	}
	defer unix.Close(pair[1])
	g.linkFD, g.isChild = pair[0], true
	forked, err := g.prepare(s, uintptr(pair[1]))
	if err != nil {
		return nil, errors.Join(err, unix.Close(g.linkFD), g.release())
	}
	atomic.StoreUint32(&g.board.leading, 1)
	pid, errno := forked.fork()
	unix.Close(int(forked.successor.program))
	if forked.leaderFD != none {
		unix.Close(int(forked.leaderFD))
	}
	if errno != 0 {
		return nil, errors.Join(fmt.Errorf("forking: %w", errno), unix.Close(g.linkFD), g.release())
	}
	g.pid = int(pid)
	return g, nil
}

// prepare prepares the data of the guard. end is the descriptor of the guard's end of the link.
func (g *Guard) prepare(s Succession, end uintptr) (*guardProcess, error) {
	spec := s.Successor(g.linkFD, g.memoryFD)
	p, err := spec.parts()
	if err != nil {
		return nil, err
	}
	proc := &guardProcess{
		board: g.board, leader: uintptr(unix.Getpid()), leaderFD: none, link: end, endFD: end, peerFD: uintptr(g.linkFD),
		forwardedSignals: setOf(s.Forwarded), fullMask: allSignals, mayLeaveDir: s.MayLeaveDir,
		successor: spec.layOut(p, newBlock(p.size())),
	}
	program, err := unix.Open(SelfExe, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", SelfExe, err)
	}
	proc.successor.program = uintptr(program)
	if fd, err := unix.PidfdOpen(unix.Getpid(), 0); err == nil {
		proc.leaderFD = uintptr(fd)
	}
	copy(proc.path[:], "/proc/thread-self/children\x00")
	copy(proc.root[:], "/\x00")
	proc.argv, proc.environ = ownMemory()
	for _, fd := range append(slices.Clone(s.KeptFDs), int(end), g.memoryFD, int(int32(proc.leaderFD)), program) {
		proc.keptFDs = append(proc.keptFDs, int32(fd))
	}
	slices.Sort(proc.keptFDs)
	proc.keptFDs = slices.DeleteFunc(slices.Compact(proc.keptFDs), func(fd int32) bool { return fd < 3 })
	proc.keptFDs = append(proc.keptFDs, endOfFDs, endOfFDs) // see retain
	return proc, nil
}

// OpenGuard returns the Guard for the guard that has started this process. link and memory are the descriptors that
// Succession.Successor got.
func OpenGuard(link, memory int) (*Guard, error) {
	unix.CloseOnExec(link)
	unix.CloseOnExec(memory)
	g, err := openBoard(memory)
	if err != nil {
		return nil, err
	}
	g.linkFD, g.pid = link, int(g.board.guardPID) // not getppid(2), because the guard may have ended
	g.seenOrphans = atomic.LoadUint32(&g.board.orphanCount)
	for i := range g.slots() {
		s := &g.board.slots[i]
		if s.requested != 0 && atomic.LoadInt32(&s.pid) == 0 {
			s.requested = 0 // the request was never sent, or the fork has failed
		}
		if s.requested != 0 {
			g.pendingStarts = append(g.pendingStarts, i)
		}
	}
	g.watchTarget()
	return g, nil
}

// Lead declares that this process receives signals and performs the run. After a takeover, Lead also makes the kernel
// send SIGCHLD to this process when the guard ends.
func (g *Guard) Lead() {
	if !g.isChild {
		_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGCHLD), 0, 0, 0)
	}
	atomic.StoreUint32(&g.board.leading, 1)
	g.wakeGuard()
}

// openBoard maps the board from a descriptor, and returns a Guard that is not connected yet.
func openBoard(memory int) (*Guard, error) {
	mapped, err := unix.Mmap(memory, 0, int(unsafe.Sizeof(board{}))+blocksSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping memory for the guard: %w", err)
	}
	b := (*board)(unsafe.Pointer(&mapped[0]))
	g := &Guard{startTable: startTable{board: b}, memoryFD: memory, mapping: mapped, targetFD: -1}
	var st unix.Stat_t
	if err = unix.Fstat(memory, &st); err == nil {
		g.size = uint32(st.Size)
		err = g.extend(uint32(unsafe.Offsetof(g.board.slots) + spareSlots*unsafe.Sizeof(slot{})))
	}
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(mapped))
	}
	return g, nil
}

// extend makes the memory exist up to an offset, and reserves more if possible. RLIMIT_FSIZE also limits this memory.
// The error wraps ENOMEM.
func (g *Guard) extend(to uint32) (err error) {
	if to <= g.size {
		return nil
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		limit.Cur = uint64(to)
	}
	if limit.Cur < uint64(to) { // ftruncate(2) would send SIGXFSZ
		return fmt.Errorf("memory for the guard: %w: %w", unix.EFBIG, unix.ENOMEM)
	}
	const step = 64 << 10
	size := min(int64(to)+step, int64(min(limit.Cur, 1<<32-1)))
	for range tries {
		if err = unix.Ftruncate(g.memoryFD, size); err == nil {
			g.size = uint32(size)
			return nil
		}
	}
	return fmt.Errorf("memory for the guard: %w: %w", err, unix.ENOMEM)
}

func (g *Guard) release() error { return errors.Join(unix.Munmap(g.mapping), unix.Close(g.memoryFD)) }

// PID returns the pid of the guard.
func (g *Guard) PID() int { return g.pid }

// Ended reports whether the guard has ended. If the guard is suspended, Ended sends it SIGCONT.
func (g *Guard) Ended() bool {
	switch {
	case g.gone:
	case g.isChild:
		g.gone = isZombie(g.pid)
		if !g.gone && suspendedBy(g.pid) != 0 {
			_ = unix.Kill(g.pid, unix.SIGCONT)
		}
	default:
		g.gone = unix.Getppid() != g.pid
		if !g.gone && isSuspended(g.pid) {
			_ = unix.Kill(g.pid, unix.SIGCONT)
		}
	}
	return g.gone
}

// isSuspended reports whether a process is suspended. Without /proc it returns false.
func isSuspended(pid int) bool {
	stat, _ := procfs.Read(strconv.Itoa(pid) + "/stat")
	p, _ := procfs.ParseStat(stat)
	return p.Suspended
}

// DropSignals makes the guard stop forwarding these signals.
func (g *Guard) DropSignals(signals []syscall.Signal) { g.board.droppedSignals = setOf(signals) }

// WasParentOf reports whether the guard has ended. pid is the pid of a child of this process. If the guard has started
// that child, the kernel has reparented the child to this process, so the guard has ended. Ended may not notice that
// end while a debugger traces the guard.
func (g *Guard) WasParentOf(pid int) bool {
	g.gone = g.gone || g.slotOf(pid) != nil
	return g.gone
}

// IsChild reports whether the guard is a child of this process. If it is, the guard's children are reparented to this
// process when the guard ends.
func (g *Guard) IsChild() bool { return g.isChild }

// Close kills the guard. If the guard is a child of this process, Close reaps it, and the guard's children are
// reparented to this process. If the guard is the parent, Close first makes it reap the processes that have ended.
func (g *Guard) Close() {
	if !g.isChild {
		if unix.Getppid() != g.pid {
			return
		}
		g.reapEnded()
	}
	for range tries {
		if unix.Kill(g.pid, unix.SIGKILL) != nil {
			continue
		}
		if g.isChild {
			reap(g.pid)
		}
		return
	}
}

// reapEnded makes the guard reap the processes that have ended. It waits for that, but gives up after 100 attempts.
func (g *Guard) reapEnded() {
	for range 100 {
		busy := false
		for i := range g.slots() {
			if s := &g.board.slots[i]; atomic.LoadUint32(&s.requested) != 0 && atomic.LoadUint32(&s.endStatus) != 0 {
				atomic.StoreUint32(&s.reapRequested, 1)
				busy = true
			}
		}
		if !busy {
			return
		}
		g.wakeGuard()
		time.Sleep(time.Millisecond)
	}
}

// wakeGuard makes the guard look at the board. A full queue is no error, because the guard will still read earlier
// messages.
func (g *Guard) wakeGuard() { _ = g.send(noSlot, 0) }

// send sends a message without waiting.
func (g *Guard) send(slot, at uint32) (err error) {
	m := message{slot, at}
	for range tries {
		err = eintr.Retry(func() error {
			return unix.Sendmsg(g.linkFD, (*[unsafe.Sizeof(m)]byte)(unsafe.Pointer(&m))[:], nil, nil,
				unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		})
		if err == nil || err == unix.EAGAIN {
			break
		}
	}
	return err
}

// memoryFile makes memory with a descriptor. It uses MFD_NOEXEC_SEAL (Linux 6.3), because vm.memfd_noexec may forbid
// executable memory.
func memoryFile() (fd int, err error) {
	if fd, err = unix.MemfdCreate("graceful-guard", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL); err == unix.EINVAL {
		fd, err = unix.MemfdCreate("graceful-guard", unix.MFD_CLOEXEC)
	}
	return fd, err
}

// ownMemory returns the memory that contains the command line and the environment of this process (proc_pid_stat(5)),
// or nil.
func ownMemory() (argv, environ []byte) {
	stat, err := os.ReadFile("/proc/self/stat")
	_, rest, found := strings.Cut(string(stat), ") ")
	if err != nil || !found || len(os.Args) == 0 || os.Args[0] == "" {
		return nil, nil
	}
	const first, argStart = 3, 48 // numbers of fields
	fields := strings.Fields(rest)
	if len(fields) < argStart-first+4 {
		return nil, nil
	}
	var limits [4]uintptr // arg_start, arg_end, env_start, env_end
	for i := range limits {
		n, err := strconv.ParseUint(fields[argStart-first+i], 10, 64)
		if err != nil {
			return nil, nil
		}
		limits[i] = uintptr(n)
	}
	begin := unsafe.Pointer(unsafe.StringData(os.Args[0]))
	if uintptr(begin) != limits[0] || limits[1] < limits[0] || limits[2] < limits[1] || limits[3] < limits[2] {
		return nil, nil
	}
	argv = unsafe.Slice((*byte)(begin), limits[1]-limits[0])
	environ = unsafe.Slice((*byte)(unsafe.Add(begin, limits[2]-limits[0])), limits[3]-limits[2])
	return argv, environ
}
