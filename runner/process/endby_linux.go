package process

import (
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// EndBy ends this process by a signal, so that our parent sees what it would have seen of the target; but without a core
// dump, which the target has had if it was to have one. It returns when it cannot: PID 1 does not die of its own
// signals.
//
// os/signal's default is not the kernel's: for SIGQUIT and faults it is the trace of a crash.
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
