package forward

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Last is the highest signal number (signal(7)).
const Last syscall.Signal = 64

// firstRealTime is SIGRTMIN as C libraries and kill(1) count it; they keep 32 and 33 for themselves.
const firstRealTime syscall.Signal = 34

// uncatchable lists the signals that os/signal cannot deliver: those of the kernel, faults, which the Go runtime turns
// into a crash even when another process sent them, those that it leaves to C libraries
// (runtime/sigtab_linux_generic.go), and its profiler's, which it swallows (sighandler in runtime/signal_unix.go).
var uncatchable = []syscall.Signal{
	unix.SIGKILL, unix.SIGSTOP,
	unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS, unix.SIGSTKFLT,
	32, 33, 34,
	unix.SIGPROF,
}
