package process

import (
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/sigstate"
)

// EndBy ends this process by a signal, so that the parent sees the end that the target had. It writes no core dump: the
// target has written one, if one was wanted. It returns if it fails: PID 1 does not end by its own signals.
//
// The default of os/signal is not the kernel's: for SIGQUIT and faults it prints a stack trace.
func EndBy(sig syscall.Signal) {
	if unix.Getpid() == 1 {
		return
	}
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	runtime.LockOSThread()
	sigstate.Default(sig)
	sigstate.SetMask()
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), sig)
	time.Sleep(time.Second)
}

// DropSentFaults makes signals that report a fault have no effect on PID 1 when another process sends them: the kernel
// drops a signal to PID 1 that has its default action. The Go runtime ends a program by them. A fault of this process
// still ends it, because the kernel forces the signal then (signal(7)). Other processes than PID 1 are not changed.
func DropSentFaults() {
	if unix.Getpid() != 1 {
		return
	}
	for _, sig := range []syscall.Signal{
		unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSTKFLT, unix.SIGSYS,
	} {
		sigstate.Default(sig)
	}
}

// SinceBoot returns the time since boot (CLOCK_BOOTTIME), which is the same for all processes.
func SinceBoot() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return time.Duration(now.Nano())
}
