package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The code in this file forks, and runs in the forked child until the child executes a program. The child is a copy of
// graceful with only one thread. The other threads do not exist in the child, even if they held a lock or the garbage
// collector waits for them. So this code only makes raw system calls and uses memory that already exists. It does not
// allocate, store a pointer (a write barrier), call a method of an interface, or grow its stack.
//
// With go:nosplit the linker checks the size of the stack. Without optimisation each call uses more of the stack. So
// functions are small, and their data is in the receiver. With go:norace the race detector ignores a function.

// request describes the program that a child executes. It is the first part of a block of memory. The texts and lists
// come after it in the block. The request refers to them by offsets (type place, 0 means none), so that the block may
// be at any address. The child writes to the request, to the lists of texts, and to the variables that get its pid. The
// guard and its child share the block, so the guard copies the request before the fork.
type request struct {
	block        uintptr    // address of the block
	slot         uintptr    // address of the slot on the board; 0: none
	stdio        [3]uintptr // descriptors for standard input, output and error
	newSession   bool       // the child leads a session with the terminal stdio[0]; else a group in graceful's session
	foreground   bool       // the child's group becomes the foreground group of the terminal at stdio[0]
	fileLimitSet bool       // RLIMIT_NOFILE becomes fileLimit; else it does not change
	ignored      uint64     // ignored signals: signal n is bit n-1
	blocked      uint64     // blocked signals, in the same form
	fileLimit    unix.Rlimit
	ownFileLimit unix.Rlimit // RLIMIT_NOFILE of graceful
	program      uintptr     // descriptor of the program; atFDCWD: there is none, and programPaths lead to the program
	keptFDs      place       // descriptors (int32) that the program inherits under the same numbers, then -1
	pids         place       // list of the places at which the child writes its pid in decimal
	cgroup       place       // path of the directory of the cgroup
	procs        place       // path of cgroup.procs in that directory; the child sets 0 if clone3(2) has made it a member
	dir          place       // path of the working directory; 0: the parent's
	spare        place       // path of the directory that the child makes and removes if dir is gone
	programPaths place       // list of the paths to try
	argv, env    place
	script       place // arguments of the shell for a path that is a script

	result      uintptr // result of the last system call
	errno       syscall.Errno
	failure     failure
	foundErrno  syscall.Errno // EACCES: a program exists, but may not be executed
	pid         uintptr       // pid of the child
	group       int32         // pid as an int32, for tcsetpgrp(3)
	parentMask  uint64        // signal mask of the parent
	buffer      [128]byte
	sigaction   sigaction
	cgroupClone cloneArgs
	robust      robustList
}

// place is an offset in the block of a request.
type place uintptr

// failure is the reason why a process could not be started.
type failure struct {
	stage stage
	errno syscall.Errno
}

// stage is the step of a start that failed.
type stage int32

const (
	stageFork  stage = iota
	stageSetup       // session, group and descriptors; almost never fails
	stageCgroup
	stageDir
	stageExec
	stageInterpreter // the program exists, but not its interpreter or dynamic loader
)

// cloneArgs is struct clone_args of clone3(2), with the size that CLONE_INTO_CGROUP needs (Linux 5.7).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// robustList is struct robust_list_head (set_robust_list(2)) and its only entry.
type robustList struct {
	first   uintptr
	offset  uintptr // from an entry to its lock
	pending uintptr
	entry   uintptr
}

// allSignals is a mask that blocks every signal.
var allSignals = ^uint64(0)

// address returns the address of a place.
//
//go:norace
//go:nosplit
func (r *request) address(p place) uintptr { return r.block + uintptr(p) }

// at returns the address of a place as a pointer.
//
//go:norace
//go:nosplit
//go:nocheckptr
func (r *request) at(p place) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(r), r.address(p)-uintptr(unsafe.Pointer(r)))
}

// fork forks this process. In the child, result and errno are 0. Signals must be blocked, because a handler of the Go
// runtime cannot run in the child.
//
//go:norace
//go:nosplit
func (r *request) fork() {
	if r.cgroup == 0 {
		r.failure.stage = stageFork
		r.clone()
		return
	}
	r.forkIntoCgroup()
}

// forkIntoCgroup forks with clone3(2). If a kernel or a seccomp filter refuses that, the child enters the cgroup later.
//
//go:norace
//go:nosplit
func (r *request) forkIntoCgroup() {
	r.failure.stage = stageCgroup
	if !r.try(unix.SYS_OPENAT, atFDCWD, r.address(r.cgroup), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) {
		return
	}
	dir := r.result
	r.cgroupClone.flags, r.cgroupClone.exitSignal = unix.CLONE_INTO_CGROUP, uint64(unix.SIGCHLD)
	if r.slot != 0 {
		r.cgroupClone.flags |= unix.CLONE_PARENT_SETTID
	}
	r.cgroupClone.cgroup, r.cgroupClone.parentTID = uint64(dir), uint64(r.pidAddress())
	r.failure.stage = stageFork
	r.try(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&r.cgroupClone)), unsafe.Sizeof(r.cgroupClone), 0, 0)
	if r.errno == 0 && r.result == 0 {
		r.procs = 0
		return
	}
	if r.errno != 0 && r.errno != syscall.EAGAIN && r.errno != syscall.ENOMEM {
		r.clone()
	}
	pid, errno := r.result, r.errno
	if pid != 0 || errno != 0 {
		r.try(unix.SYS_CLOSE, dir, 0, 0, 0)
		r.result, r.errno = pid, errno
	}
}

// become executes the program, and never returns. If that fails, it records the reason in the slot and ends the child.
//
//go:norace
//go:nosplit
func (r *request) become() {
	if r.enterGroup() && r.announce() && r.enterCgroup() && r.setDescriptors() && r.enterDir() {
		r.setInherited()
		r.relocate(r.env)
		r.relocate(r.script)
		r.relocate(r.argv)
		r.relocate(r.programPaths)
		r.execute()
	}
	if r.slot != 0 {
		r.slotAt().failure.stage, r.slotAt().failure.errno = r.failure.stage, r.errno
		r.settle()
	}
	for {
		r.try(unix.SYS_EXIT_GROUP, 127, 0, 0, 0)
	}
}

// enterGroup makes the child the leader of a process group or a session. SIGTTOU is blocked in the child. So the child
// can change the foreground group even from the background.
//
//go:norace
//go:nosplit
func (r *request) enterGroup() bool {
	r.try(unix.SYS_GETPID, 0, 0, 0, 0)
	r.pid, r.group = r.result, int32(r.result)
	r.failure.stage = stageSetup
	if r.newSession {
		return r.try(unix.SYS_SETSID, 0, 0, 0, 0) && r.try(unix.SYS_IOCTL, r.stdio[0], unix.TIOCSCTTY, 0, 0)
	}
	if !r.try(unix.SYS_SETPGID, 0, 0, 0, 0) {
		return false
	}
	if r.foreground {
		r.try(unix.SYS_IOCTL, r.stdio[0], unix.TIOCSPGRP, uintptr(unsafe.Pointer(&r.group)), 0)
	}
	return true
}

// announce makes the kernel wake graceful when the child has executed the program or has ended. startFutex becomes a
// robust futex that the child holds (set_robust_list(2)). At execve(2) and at the end of a process the kernel releases
// the futex: it sets settled and wakes graceful. enterGroup runs before announce, so graceful may signal the group once
// startFutex is not 0. If set_robust_list(2) fails, as in an emulator, graceful does not wait for execve(2).
//
//go:norace
//go:nosplit
func (r *request) announce() bool {
	if r.slot == 0 {
		return true
	}
	s := r.slotAt()
	head, entry := uintptr(unsafe.Pointer(&r.robust)), uintptr(unsafe.Pointer(&r.robust.entry))
	r.robust.first, r.robust.entry = entry, head
	r.robust.offset = uintptr(unsafe.Pointer(&s.startFutex)) - entry
	s.startFutex = uint32(r.pid) | futexWaiters
	if !r.try(unix.SYS_SET_ROBUST_LIST, head, unsafe.Offsetof(r.robust.entry), 0, 0) {
		r.settle()
	}
	return true
}

// settle sets settled and wakes graceful, which then stops waiting for this start.
//
//go:norace
//go:nosplit
func (r *request) settle() {
	s := r.slotAt()
	s.startFutex = settled
	r.try(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.startFutex)), futexWake, 1, 0)
}

// enterCgroup moves the child into its cgroup, if it has one and clone3(2) has not done so.
//
//go:norace
//go:nosplit
func (r *request) enterCgroup() bool {
	if r.procs == 0 {
		return true
	}
	r.failure.stage = stageCgroup
	if !r.try(unix.SYS_OPENAT, atFDCWD, r.address(r.procs), unix.O_WRONLY|unix.O_CLOEXEC, 0) {
		return false
	}
	r.buffer[0] = '0'
	return r.try(unix.SYS_WRITE, r.result, uintptr(unsafe.Pointer(&r.buffer)), 1, 0)
}

// setDescriptors sets up the descriptors of the program, without FD_CLOEXEC.
//
//go:norace
//go:nosplit
func (r *request) setDescriptors() bool {
	r.failure.stage = stageSetup
	for to := range r.stdio {
		from := r.stdio[to]
		if from == uintptr(to) {
			if !r.try(unix.SYS_FCNTL, from, unix.F_SETFD, 0, 0) {
				return false
			}
		} else if !r.try(unix.SYS_DUP3, from, uintptr(to), 0, 0) {
			return false
		}
	}
	for at := r.keptFDs; at != 0; at += 4 {
		fd := *(*int32)(r.at(at))
		if fd < 0 {
			break
		}
		if !r.try(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, 0, 0) {
			return false
		}
	}
	return true
}

// enterDir enters the working directory. If that directory is gone, the child makes, enters and removes an empty one.
//
//go:norace
//go:nosplit
func (r *request) enterDir() bool {
	r.failure.stage = stageDir
	if r.dir == 0 || r.try(unix.SYS_CHDIR, r.address(r.dir), 0, 0, 0) {
		return true
	}
	if r.errno != syscall.ENOENT && r.errno != syscall.ENOTDIR && r.errno != syscall.ESTALE {
		return false
	}
	if r.slot != 0 {
		r.slotAt().dirGone = 1
	}
	r.try(unix.SYS_UMASK, 0o077, 0, 0, 0)
	umask := r.result
	made := r.try(unix.SYS_MKDIRAT, atFDCWD, r.address(r.spare), 0o700, 0)
	errno := r.errno
	r.try(unix.SYS_UMASK, umask, 0, 0, 0)
	r.errno = errno
	return made && r.try(unix.SYS_CHDIR, r.address(r.spare), 0, 0, 0) &&
		r.try(unix.SYS_UNLINKAT, atFDCWD, r.address(r.spare), unix.AT_REMOVEDIR, 0)
}

// setInherited sets RLIMIT_NOFILE, the pid variables, and the signals of the program. It ignores errors.
//
//go:norace
//go:nosplit
func (r *request) setInherited() {
	if r.fileLimitSet {
		r.setFiles(&r.fileLimit)
	}
	for at := r.pids; at != 0; at += place(unsafe.Sizeof(at)) {
		text := *(*place)(r.at(at))
		if text == 0 {
			break
		}
		writeDecimal((*byte)(r.at(text)), r.pid)
	}
	for n := uintptr(1); n <= 64; n++ {
		r.sigaction[0] = uintptr(r.ignored >> (n - 1) & 1) // SIG_DFL is 0, SIG_IGN is 1
		r.try(unix.SYS_RT_SIGACTION, n, uintptr(unsafe.Pointer(&r.sigaction)), 0, sigsetSize)
	}
	r.setMask(&r.blocked, nil)
}

// relocate replaces the offsets in a list by addresses, which the kernel needs.
//
//go:norace
//go:nosplit
func (r *request) relocate(list place) {
	for at := list; ; at += place(unsafe.Sizeof(at)) {
		text := (*uintptr)(r.at(at))
		if *text == 0 {
			return
		}
		*text = r.address(place(*text))
	}
}

// atFDCWD is AT_FDCWD, which is -100.
const atFDCWD = ^uintptr(99)

// writeDecimal writes a number in decimal, and a NUL. The caller reserves enough memory.
//
//go:norace
//go:nosplit
func writeDecimal(at *byte, n uintptr) {
	digits := uintptr(1)
	for rest := n; rest >= 10; rest /= 10 {
		digits++
	}
	*(*byte)(unsafe.Add(unsafe.Pointer(at), digits)) = 0
	for i := digits; i > 0; i-- {
		*(*byte)(unsafe.Add(unsafe.Pointer(at), i-1)) = byte('0' + n%10)
		n /= 10
	}
}

// setFiles sets RLIMIT_NOFILE.
//
//go:norace
//go:nosplit
func (r *request) setFiles(to *unix.Rlimit) {
	r.try(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(to)), 0)
}

//go:norace
//go:nosplit
func (r *request) setMask(to, before *uint64) {
	r.try(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(before)),
		sigsetSize)
}

// try makes a system call, and stores its result and error. It returns true if the call has succeeded.
//
//go:norace
//go:nosplit
//go:noinline
func (r *request) try(number, a1, a2, a3, a4 uintptr) bool {
	r.result, _, r.errno = syscall.RawSyscall6(number, a1, a2, a3, a4, 0, 0)
	return r.errno == 0
}

//go:norace
//go:nosplit
func (r *request) cloneFlags() uintptr {
	if r.slot == 0 {
		return uintptr(unix.SIGCHLD)
	}
	return uintptr(unix.SIGCHLD) | unix.CLONE_PARENT_SETTID
}

// pidAddress returns the address at which the kernel stores the pid of the child, even before the child runs.
//
//go:norace
//go:nosplit
func (r *request) pidAddress() uintptr { return r.slot + unsafe.Offsetof(slot{}.pid) }

// slotAt returns the slot of the request.
//
//go:norace
//go:nosplit
//go:nocheckptr
func (r *request) slotAt() *slot {
	return (*slot)(unsafe.Add(unsafe.Pointer(r), r.slot-uintptr(unsafe.Pointer(r))))
}
