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

// child is what a child needs to become the program. The child itself writes only the last part.
type child struct {
	report     uintptr // descriptor of a pipe for a failure
	stdio      [3]uintptr
	keep       []int32 // descriptors that the program inherits under their numbers
	newSession bool    // stdio[0] is its terminal; else it leads a group in graceful's session
	foreground bool    // its group is made the foreground group of the terminal at stdio[0]
	cgroup     int     // descriptor of cgroup.procs; below 0: none
	ignored    uint64  // signal n is bit n-1
	blocked    uint64
	files      *unix.Rlimit // RLIMIT_NOFILE; nil: graceful's
	present    *unix.Rlimit // graceful's: &now
	now        unix.Rlimit
	pids       []*byte // where its pid is written, in decimal
	dir        *byte   // nil: graceful's
	path       *byte
	argv, env  **byte
	script     **byte // arguments of the shell that runs path as a script
	into       cloneArgs

	result    uintptr // of the last system call
	errno     syscall.Errno
	failure   failure
	pid       uintptr
	group     int32
	before    uint64 // the parent's mask
	begin     [128]byte
	sigaction sigaction
}

// failure is what the child writes to the report.
type failure struct {
	stage stage
	errno syscall.Errno
}

// stage is what a child was doing.
type stage int

const (
	stageSetup stage = iota // what hardly ever fails
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

// fork forks this process, and the child becomes what c describes. With into, clone3(2) does that as c.into says.
// Signals are blocked meanwhile, because a handler of the Go runtime cannot run in the child.
//
//go:norace
//go:nosplit
//go:noinline
func (c *child) fork(into bool) (pid uintptr, errno syscall.Errno) {
	c.setMask(&allSignals, &c.before)
	if into {
		c.try(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&c.into)), unsafe.Sizeof(c.into), 0, 0)
	} else {
		c.clone()
	}
	pid, errno = c.result, c.errno
	if pid == 0 && errno == 0 {
		c.become()
	}
	c.setMask(&c.before, nil)
	return pid, errno
}

// become executes the program, or reports why it could not. It does not return.
//
//go:norace
//go:nosplit
func (c *child) become() {
	if c.enterGroup() && c.enterCgroup() && c.setDescriptors() && c.enterDir() {
		c.setInherited()
		c.execute()
	}
	c.failure.errno = c.errno
	c.setMask(&allSignals, nil) // SIGPIPE, where the parent is gone
	c.try(unix.SYS_WRITE, c.report, uintptr(unsafe.Pointer(&c.failure)), unsafe.Sizeof(c.failure), 0)
	for {
		c.try(unix.SYS_EXIT_GROUP, 127, 0, 0, 0)
	}
}

// enterGroup makes the child the leader of a process group or a session. A change of the foreground works in the
// background, because SIGTTOU is blocked.
//
//go:norace
//go:nosplit
func (c *child) enterGroup() bool {
	c.try(unix.SYS_GETPID, 0, 0, 0, 0)
	c.pid, c.group = c.result, int32(c.result)
	c.failure.stage = stageSetup
	if c.newSession {
		return c.try(unix.SYS_SETSID, 0, 0, 0, 0) && c.try(unix.SYS_IOCTL, c.stdio[0], unix.TIOCSCTTY, 0, 0)
	}
	if !c.try(unix.SYS_SETPGID, 0, 0, 0, 0) {
		return false
	}
	if c.foreground {
		c.try(unix.SYS_IOCTL, c.stdio[0], unix.TIOCSPGRP, uintptr(unsafe.Pointer(&c.group)), 0)
	}
	return true
}

// enterCgroup moves the child into a cgroup, where clone3(2) has not.
//
//go:norace
//go:nosplit
func (c *child) enterCgroup() bool {
	if c.cgroup < 0 {
		return true
	}
	c.failure.stage = stageCgroup
	c.begin[0] = '0'
	return c.try(unix.SYS_WRITE, uintptr(c.cgroup), uintptr(unsafe.Pointer(&c.begin)), 1, 0)
}

// setDescriptors makes the descriptors of the program, without FD_CLOEXEC.
//
//go:norace
//go:nosplit
func (c *child) setDescriptors() bool {
	c.failure.stage = stageSetup
	for to := range c.stdio {
		from := c.stdio[to]
		if from == uintptr(to) {
			if !c.try(unix.SYS_FCNTL, from, unix.F_SETFD, 0, 0) {
				return false
			}
		} else if !c.try(unix.SYS_DUP3, from, uintptr(to), 0, 0) {
			return false
		}
	}
	for i := range c.keep {
		if !c.try(unix.SYS_FCNTL, uintptr(c.keep[i]), unix.F_SETFD, 0, 0) {
			return false
		}
	}
	return true
}

//go:norace
//go:nosplit
func (c *child) enterDir() bool {
	c.failure.stage = stageDir
	return c.dir == nil || c.try(unix.SYS_CHDIR, uintptr(unsafe.Pointer(c.dir)), 0, 0, 0)
}

// setInherited sets what hardly can fail.
//
//go:norace
//go:nosplit
func (c *child) setInherited() {
	c.setFiles(c.files)
	for i := range c.pids {
		writeDecimal(c.pids[i], c.pid)
	}
	for n := uintptr(1); n <= 64; n++ {
		c.sigaction[0] = uintptr(c.ignored >> (n - 1) & 1) // SIG_DFL is 0, SIG_IGN is 1
		c.try(unix.SYS_RT_SIGACTION, n, uintptr(unsafe.Pointer(&c.sigaction)), 0, sigsetSize)
	}
	c.setMask(&c.blocked, nil)
}

// execute executes the program, or the shell if the program is a script for it. It returns only if that fails.
//
//go:norace
//go:nosplit
func (c *child) execute() {
	c.failure.stage = stageExec
	c.execve(c.path, c.argv)
	if c.errno == syscall.ENOEXEC {
		c.setFiles(c.present)
		script := c.isScript()
		c.setFiles(c.files)
		if script {
			c.execve(*c.script, c.script)
		}
		c.errno = syscall.ENOEXEC
	}
}

//go:norace
//go:nosplit
func (c *child) execve(path *byte, argv **byte) {
	c.try(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(argv)),
		uintptr(unsafe.Pointer(c.env)), 0)
}

// isScript reports whether a file that the kernel cannot execute is one for a shell, as execvp(3) and POSIX have it. It
// is not if it has the magic number of ELF, or a NUL in its first line.
//
//go:norace
//go:nosplit
func (c *child) isScript() bool {
	if !c.try(unix.SYS_OPENAT, atFDCWD, uintptr(unsafe.Pointer(c.path)), unix.O_RDONLY|unix.O_CLOEXEC, 0) ||
		!c.try(unix.SYS_READ, c.result, uintptr(unsafe.Pointer(&c.begin)), unsafe.Sizeof(c.begin), 0) {
		return false
	}
	if c.result >= 4 && c.begin[0] == 0x7f && c.begin[1] == 'E' && c.begin[2] == 'L' && c.begin[3] == 'F' {
		return false
	}
	for i := range c.begin {
		if uintptr(i) == c.result || c.begin[i] == '\n' {
			break
		}
		if c.begin[i] == 0 {
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
func (c *child) setFiles(to *unix.Rlimit) {
	if c.files != nil {
		c.try(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(to)), 0)
	}
}

//go:norace
//go:nosplit
func (c *child) setMask(to, before *uint64) {
	c.try(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(before)),
		sigsetSize)
}

// try makes a system call, keeps its result and error, and reports whether there was none.
//
//go:norace
//go:nosplit
//go:noinline
func (c *child) try(number, a1, a2, a3, a4 uintptr) bool {
	c.result, _, c.errno = syscall.RawSyscall6(number, a1, a2, a3, a4, 0, 0)
	return c.errno == 0
}
