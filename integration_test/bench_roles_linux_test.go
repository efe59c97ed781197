package integration_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/runner/sigstate"
)

// Targets of the benchmark. They write times to standard output, each as 8 bytes (CLOCK_MONOTONIC, ns, little-endian):
//
//	stamp            writes the time when it is ready, and at each SIGUSR1
//	leave-orphans N  has N children that end at once; writes the time when all have ended, and ends
//	sessions N       has N children in sessions of their own; writes the time when all exist, and stays
//
// stamp, sessions and the children of sessions end when the benchmark no longer reads their output.
func init() {
	roles["stamp"], roles["leave-orphans"], roles["sessions"] = stamp, leaveOrphans, sessions
}

// stamp receives signals without the Go runtime, because the runtime passes them to another thread. SIGUSR1 must then
// be blocked in all threads from the beginning. So the helper blocks the signal and executes itself again.
func stamp(args []string) int {
	runtime.LockOSThread()
	if len(args) == 0 {
		sigstate.Block(unix.SIGUSR1)
		self, err := os.Executable()
		if err == nil {
			err = syscall.Exec(self, []string{"helper", "stamp", "blocked"}, os.Environ())
		}
		panic(err)
	}
	go endUnread()
	const setSize = 8 // bytes of a sigset_t in the kernel
	set := sigstate.SetOf(unix.SIGUSR1)
	writeTime()
	for {
		_, _, errno := syscall.Syscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0, 0, setSize, 0, 0)
		if errno == 0 {
			writeTime()
		} else if errno != unix.EINTR {
			panic(errno)
		}
	}
}

func leaveOrphans(args []string) int {
	n, _ := strconv.Atoi(args[0])
	ends, held := cloexecPipe()
	forks(n)
	_ = held.Close()
	_, _ = io.Copy(io.Discard, ends) // until the last child ends
	writeTime()
	return 0
}

func sessions(args []string) int {
	n, _ := strconv.Atoi(args[0])
	there, tell := cloexecPipe()
	forkSessions(n, tell.Fd())
	_ = tell.Close()
	if _, err := io.ReadFull(there, make([]byte, n)); err != nil {
		panic(fmt.Sprint("not all processes were made: ", err))
	}
	writeTime()
	endUnread()
	return 0
}

//go:norace
func forkSessions(n int, tell uintptr) {
	for range n {
		if child, _ := rawFork(); child {
			syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
			syscall.RawSyscall(unix.SYS_WRITE, tell, uintptr(unsafe.Pointer(&oneByte)), 1)
			syscall.RawSyscall(unix.SYS_CLOSE, tell, 0, 0)
			rawEndUnread()
		}
	}
}

var oneByte byte

// endUnread ends the process when standard output no longer has a reader. poll(2) reports that state even if no event
// is requested.
func endUnread() {
	for {
		if _, err := unix.Poll([]unix.PollFd{output}, -1); err != unix.EINTR {
			os.Exit(0)
		}
	}
}

// rawEndUnread does what endUnread does, but in a child of rawFork, which may make only system calls.
//
//go:norace
func rawEndUnread() {
	const polled = 1
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&output)), polled, 0, 0, 0, 0)
		if errno != unix.EINTR {
			rawExit()
		}
	}
}

var output = unix.PollFd{Fd: 1}

func cloexecPipe() (read, write *os.File) {
	read, write, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	return read, write
}

// monotonic returns the time of a clock that all processes share, in ns.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

func writeTime() {
	var text [8]byte
	binary.LittleEndian.PutUint64(text[:], uint64(monotonic()))
	if _, err := unix.Write(1, text[:]); err != nil {
		panic(err)
	}
}

// readTime reads a time that writeTime has written.
func readTime(from io.Reader) (int64, error) {
	var text [8]byte
	_, err := io.ReadFull(from, text[:])
	return int64(binary.LittleEndian.Uint64(text[:])), err
}
