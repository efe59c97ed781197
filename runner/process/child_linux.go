package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file runs in a forked child before it executes a program. The child is a copy of graceful with one thread: the
// thread that held a lock, or that the garbage collector waits for, is not there. So its code makes raw system calls
// and accesses memory that exists already. It does not allocate, store a pointer (a write barrier), call a method of an
// interface, or grow its stack. The linker checks the latter (go:nosplit), also for a build without optimisation, where
// each call takes more of the stack: so functions are small, and what they need is in the struct. They are not
// instrumented for the race detector.

// request is what a child needs to become a program. It is the beginning of a block of memory, in which the texts and
// lists follow. Places are offsets in the block, so that the block may lie at any address; 0 stands for none. The child
// itself writes only the last part, and the lists of texts. The guard and its child share the block, and so the guard
// uses a copy of the request.
type request struct {
	block      uintptr // address of the block
	report     uintptr // descriptor of a pipe for a failure
	stdio      [3]uintptr
	newSession bool   // stdio[0] is its terminal; else it leads a group in graceful's session
	foreground bool   // its group is made the foreground group of the terminal at stdio[0]
	setsFiles  bool   // RLIMIT_NOFILE becomes files; else it stays graceful's
	ignored    uint64 // signal n is bit n-1
	blocked    uint64
	files      unix.Rlimit
	present    unix.Rlimit // graceful's
	program    uintptr     // descriptor of the program; atFDCWD: path names it
	keep       place       // descriptors (int32) that the program inherits under their numbers, then -1
	pids       place       // list of the places where its pid is written, in decimal
	cgroup     place       // directory
	procs      place       // cgroup.procs in that directory
	dir        place       // none: graceful's
	path       place
	argv, env  place
	script     place   // arguments of the shell that runs path as a script
	setPID     uintptr // address at which the kernel stores the pid of the child, before the child exists; 0: none

	result    uintptr // of the last system call
	errno     syscall.Errno
	failure   failure
	pid       uintptr
	group     int32
	before    uint64 // the parent's mask
	begin     [128]byte
	sigaction sigaction
	into      cloneArgs
}

// place is an offset in the block of a request.
type place uintptr

// failure is what the child writes to the report.
type failure struct {
	stage stage
	errno syscall.Errno
}

// stage is what was being done.
type stage int32

const (
	stageFork  stage = iota
	stageSetup       // what hardly ever fails
	stageCgroup
	stageDir
	stageExec
)

// cloneArgs is struct clone_args of clone3(2), as long as Linux 5.7 wants it for CLONE_INTO_CGROUP.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// allSignals is a mask that blocks every signal.
var allSignals = ^uint64(0)

// address returns the address of a place.
//
//go:norace
//go:nosplit
func (r *request) address(p place) uintptr { return r.block + uintptr(p) }

// at returns the same as a pointer.
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

// forkIntoCgroup forks with clone3(2). A seccomp filter may refuse that: then the child enters the cgroup itself.
//
//go:norace
//go:nosplit
func (r *request) forkIntoCgroup() {
	r.failure.stage = stageCgroup
	if !r.try(unix.SYS_OPENAT, atFDCWD, r.address(r.cgroup), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) {
		return
	}
	dir := r.result
	r.into.flags, r.into.exitSignal = unix.CLONE_INTO_CGROUP, uint64(unix.SIGCHLD)
	if r.setPID != 0 {
		r.into.flags |= unix.CLONE_PARENT_SETTID
	}
	r.into.cgroup, r.into.parentTID = uint64(dir), uint64(r.setPID)
	r.failure.stage = stageFork
	r.try(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&r.into)), unsafe.Sizeof(r.into), 0, 0)
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

// become executes the program, or reports why it could not. It does not return.
//
//go:norace
//go:nosplit
func (r *request) become() {
	if r.enterGroup() && r.enterCgroup() && r.setDescriptors() && r.enterDir() {
		r.setInherited()
		r.relocate(r.env)
		r.relocate(r.script)
		r.execute()
	}
	r.failure.errno = r.errno
	r.setMask(&allSignals, nil) // SIGPIPE, where the parent is gone
	r.try(unix.SYS_WRITE, r.report, uintptr(unsafe.Pointer(&r.failure)), unsafe.Sizeof(r.failure), 0)
	for {
		r.try(unix.SYS_EXIT_GROUP, 127, 0, 0, 0)
	}
}

// enterGroup makes the child the leader of a process group or a session. A change of the foreground works in the
// background, because SIGTTOU is blocked.
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

// enterCgroup moves the child into a cgroup, where clone3(2) has not.
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
	r.begin[0] = '0'
	return r.try(unix.SYS_WRITE, r.result, uintptr(unsafe.Pointer(&r.begin)), 1, 0)
}

// setDescriptors makes the descriptors of the program, without FD_CLOEXEC.
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
	for at := r.keep; at != 0; at += 4 {
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

//go:norace
//go:nosplit
func (r *request) enterDir() bool {
	r.failure.stage = stageDir
	return r.dir == 0 || r.try(unix.SYS_CHDIR, r.address(r.dir), 0, 0, 0)
}

// setInherited sets what hardly can fail.
//
//go:norace
//go:nosplit
func (r *request) setInherited() {
	if r.setsFiles {
		r.setFiles(&r.files)
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

// relocate makes addresses of the places in a list, for the kernel.
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

// execute executes the program, or the shell if the program is a script for it. It returns only if that fails. The
// arguments of the shell are its own path, the script, and the rest of argv.
//
//go:norace
//go:nosplit
func (r *request) execute() {
	r.failure.stage = stageExec
	r.relocate(r.argv)
	r.execveat(r.address(r.path), r.argv)
	if r.errno != syscall.ENOEXEC {
		return
	}
	if r.setsFiles {
		r.setFiles(&r.present)
	}
	script := r.isScript()
	if r.setsFiles {
		r.setFiles(&r.files)
	}
	if script {
		r.execveat(*(*uintptr)(r.at(r.script)), r.script)
	}
	r.errno = syscall.ENOEXEC
}

// execveat executes the program at a path, or the one of the descriptor.
//
//go:norace
//go:nosplit
func (r *request) execveat(path uintptr, argv place) {
	if r.program == atFDCWD {
		r.try(unix.SYS_EXECVE, path, r.address(argv), r.address(r.env), 0)
		return
	}
	r.result, _, r.errno = syscall.RawSyscall6(unix.SYS_EXECVEAT, r.program, path, r.address(argv), r.address(r.env),
		unix.AT_EMPTY_PATH, 0)
}

// isScript reports whether a file that the kernel cannot execute is one for a shell, as execvp(3) and POSIX have it. It
// is not if it has the magic number of ELF, or a NUL in its first line.
//
//go:norace
//go:nosplit
func (r *request) isScript() bool {
	if !r.try(unix.SYS_OPENAT, atFDCWD, r.address(r.path), unix.O_RDONLY|unix.O_CLOEXEC, 0) ||
		!r.try(unix.SYS_READ, r.result, uintptr(unsafe.Pointer(&r.begin)), unsafe.Sizeof(r.begin), 0) {
		return false
	}
	if r.result >= 4 && r.begin[0] == 0x7f && r.begin[1] == 'E' && r.begin[2] == 'L' && r.begin[3] == 'F' {
		return false
	}
	for i := range r.begin {
		if uintptr(i) == r.result || r.begin[i] == '\n' {
			break
		}
		if r.begin[i] == 0 {
			return false
		}
	}
	return true
}

// atFDCWD is AT_FDCWD, which is -100.
const atFDCWD = ^uintptr(99)

// writeDecimal writes a number and a NUL at a place that has room for them.
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

// try makes a system call, keeps its result and error, and reports whether there was none.
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
	if r.setPID == 0 {
		return uintptr(unix.SIGCHLD)
	}
	return uintptr(unix.SIGCHLD) | unix.CLONE_PARENT_SETTID
}
