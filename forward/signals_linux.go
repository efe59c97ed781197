package forward

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Last is the highest signal number (signal(7)).
const Last syscall.Signal = 64

// firstRealTime is SIGRTMIN in C libraries and kill(1). C libraries reserve 32 and 33.
const firstRealTime syscall.Signal = 34

// uncatchable lists the signals that graceful cannot receive. The kernel handles the first two. The Go runtime turns
// faults into a crash, even if another process sent them, leaves 32 to 34 to C libraries
// (runtime/sigtab_linux_generic.go), and consumes SIGPROF for its profiler (sighandler in runtime/signal_unix.go).
var uncatchable = []syscall.Signal{
	unix.SIGKILL, unix.SIGSTOP,
	unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS, unix.SIGSTKFLT,
	32, 33, 34,
	unix.SIGPROF,
}
