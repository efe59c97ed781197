package process

import (
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/sigstate"
)

// EndBy ends this process by a signal, so that the parent sees the same end as that of the target. It prevents a core
// dump, because the target has already dumped core if its limit allows that. EndBy returns only if the signal does not
// end this process. As PID 1, EndBy returns at once, because its own signals do not end PID 1.
//
// EndBy does not use os/signal, because the Go runtime then prints a stack trace for SIGQUIT and faults.
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

// DropSentFaults protects PID 1 from fault signals that another process sends. The kernel drops a signal to PID 1 that
// has the default action. With the handler of the Go runtime, the signal would end the process. A fault of this process
// itself still ends it, because the kernel forces the signal then (signal(7)). In a process other than PID 1,
// DropSentFaults changes nothing.
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

// SinceBoot returns the time since boot (CLOCK_BOOTTIME). All processes in one time namespace see the same time.
func SinceBoot() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return time.Duration(now.Nano())
}
