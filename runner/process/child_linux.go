package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/runner/process/atstart"
)

// This file runs in a forked child before it executes a program. The child is a copy of graceful with one thread: the
// thread that held a lock, or that the garbage collector waits for, is not there. So its code makes raw system calls
// and accesses memory that exists already. It does not allocate, store a pointer (a write barrier), call a method of an
// interface, or grow its stack (go:nosplit, which the linker checks). It is not instrumented for the race detector.

// child is what a child needs to become the program.
type child struct {
	report     uintptr // descriptor of a pipe for a failure
	stdio      [3]uintptr
	keep       []int32 // descriptors that the program inherits under their numbers
	newSession bool    // stdio[0] is its terminal; else it leads a group in graceful's session
	foreground bool    // its group is made the foreground group of the terminal at stdio[0]
	cgroup     int     // descriptor of cgroup.procs; below 0: none
	ignored    uint64  // signal n is bit n-1
	blocked    uint64
	files      *atstart.Limit // RLIMIT_NOFILE; nil: graceful's
	pids       []*byte        // where its pid is written, in decimal
	dir        *byte          // nil: graceful's
	path       *byte
	argv, env  **byte
}

// failure is what the child writes to the report.
type failure struct{ stage, errno int32 }

// The stages of a child.
const (
	stageSetup int32 = iota // what hardly ever fails
	stageCgroup
	stageDir
	stageExec
)

// fork forks this process, and the child becomes what c describes. Signals are blocked meanwhile, because a handler of
// the Go runtime cannot run in the child. cgroup is the directory of a cgroup to start in; below 0: ours.
//
//go:norace
//go:nosplit
//go:noinline
func fork(c *child, cgroup int) (pid int, errno syscall.Errno) {
	var before uint64
	all := ^uint64(0)
	sys(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&before)), sigsetSize)
	var r uintptr
	switch {
	case cgroup >= 0:
		args := cloneArgs{flags: unix.CLONE_INTO_CGROUP, exitSignal: uint64(unix.SIGCHLD), cgroup: uint64(cgroup)}
		r, errno = sys(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0, 0)
	default:
		r, errno = clone()
	}
	if r == 0 && errno == 0 {
		c.become()
	}
	sys(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&before)), 0, sigsetSize)
	return int(r), errno
}

// cloneArgs is struct clone_args of clone3(2), as long as the kernel that has CLONE_INTO_CGROUP wants it (Linux 5.7).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// become executes the program, or reports why it could not. It does not return.
//
//go:norace
//go:nosplit
func (c *child) become() {
	stage, errno := c.prepare()
	if errno == 0 {
		stage = stageExec
		_, errno = sys(unix.SYS_EXECVE, uintptr(unsafe.Pointer(c.path)), uintptr(unsafe.Pointer(c.argv)),
			uintptr(unsafe.Pointer(c.env)), 0)
	}
	f := failure{stage, int32(errno)}
	sys(unix.SYS_WRITE, c.report, uintptr(unsafe.Pointer(&f)), unsafe.Sizeof(f), 0)
	for {
		sys(unix.SYS_EXIT_GROUP, 127, 0, 0, 0)
	}
}

// prepare sets what the program inherits.
//
//go:norace
//go:nosplit
func (c *child) prepare() (stage int32, errno syscall.Errno) {
	if c.newSession {
		if _, errno = sys(unix.SYS_SETSID, 0, 0, 0, 0); errno != 0 {
			return stageSetup, errno
		}
		if _, errno = sys(unix.SYS_IOCTL, c.stdio[0], unix.TIOCSCTTY, 0, 0); errno != 0 {
			return stageSetup, errno
		}
	} else if _, errno = sys(unix.SYS_SETPGID, 0, 0, 0, 0); errno != 0 {
		return stageSetup, errno
	}
	if c.cgroup >= 0 {
		self := byte('0')
		if _, errno = sys(unix.SYS_WRITE, uintptr(c.cgroup), uintptr(unsafe.Pointer(&self)), 1, 0); errno != 0 {
			return stageCgroup, errno
		}
	}
	self, _ := sys(unix.SYS_GETPID, 0, 0, 0, 0)
	if c.foreground { // it works in the background, because SIGTTOU is blocked
		group := int32(self)
		sys(unix.SYS_IOCTL, c.stdio[0], unix.TIOCSPGRP, uintptr(unsafe.Pointer(&group)), 0)
	}
	for to, from := range c.stdio {
		if errno = duplicate(from, uintptr(to)); errno != 0 {
			return stageSetup, errno
		}
	}
	for _, fd := range c.keep {
		if _, errno = sys(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, 0, 0); errno != 0 {
			return stageSetup, errno
		}
	}
	if c.files != nil {
		sys(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(c.files)), 0)
	}
	for _, at := range c.pids {
		writeDecimal(at, self)
	}
	setDispositions(c.ignored)
	if c.dir != nil {
		if _, errno = sys(unix.SYS_CHDIR, uintptr(unsafe.Pointer(c.dir)), 0, 0, 0); errno != 0 {
			return stageDir, errno
		}
	}
	sys(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&c.blocked)), 0, sigsetSize)
	return stageExec, 0
}

// duplicate makes a descriptor available under another number, without FD_CLOEXEC.
//
//go:norace
//go:nosplit
func duplicate(from, to uintptr) (errno syscall.Errno) {
	if from == to {
		_, errno = sys(unix.SYS_FCNTL, to, unix.F_SETFD, 0, 0)
		return errno
	}
	_, errno = sys(unix.SYS_DUP3, from, to, 0, 0)
	return errno
}

// setDispositions ignores these signals, and gives all others their default action.
//
//go:norace
//go:nosplit
func setDispositions(ignored uint64) {
	for n := uintptr(1); n <= 64; n++ {
		var action sigaction
		action[0] = uintptr(ignored >> (n - 1) & 1) // SIG_DFL is 0, SIG_IGN is 1
		sys(unix.SYS_RT_SIGACTION, n, uintptr(unsafe.Pointer(&action)), 0, sigsetSize)
	}
}

// writeDecimal writes a number at a place that has room for it.
//
//go:norace
//go:nosplit
func writeDecimal(at *byte, n uintptr) {
	digits := uintptr(1)
	for rest := n; rest >= 10; rest /= 10 {
		digits++
	}
	for i := digits; i > 0; i-- {
		*(*byte)(unsafe.Add(unsafe.Pointer(at), i-1)) = byte('0' + n%10)
		n /= 10
	}
	*(*byte)(unsafe.Add(unsafe.Pointer(at), digits)) = 0
}

//go:norace
//go:nosplit
func sys(number, a, b, c, d uintptr) (uintptr, syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(number, a, b, c, d, 0, 0)
	return r, errno
}
