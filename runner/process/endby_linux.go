package process

import (
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// EndBy ends this process by a signal, so that the parent sees the end that the target had. It writes no core dump: the target
// has written one, if one was wanted. It returns if it fails: PID 1 does not end by its own signals.
//
// The default of os/signal is not the kernel's: for SIGQUIT and faults it prints a stack trace.
func EndBy(sig syscall.Signal) {
	if unix.Getpid() == 1 {
		return
	}
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	runtime.LockOSThread()
	var byDefault [64]byte // struct sigaction: SIG_DFL, no flags, no mask
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	SetMask(signalMask{})
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), sig)
	time.Sleep(time.Second)
}
