//go:build unix && !linux

package forward

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Last is the highest signal number that graceful forwards. It does not forward BSD's real-time signals.
const Last syscall.Signal = 31

const firstRealTime = Last + 1

var uncatchable = []syscall.Signal{
	unix.SIGKILL, unix.SIGSTOP,
	unix.SIGILL, unix.SIGTRAP, unix.SIGEMT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS, unix.SIGPROF,
}
