package terminal

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/runner/sigmask"
)

const (
	getModes    = unix.TCGETS
	setModesNow = unix.TCSETS // TCSETSW would wait for output that a suspended terminal does not show
)

// withoutSIGTTOU calls f, which may then change a terminal from the background: the kernel suspends no process for it.
func withoutSIGTTOU(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer sigmask.Block(unix.SIGTTOU)()
	f()
}

// neverSuspend protects the calling thread for good from the signals that its own reading and writing cause: SIGTTIN
// and SIGTTOU of a terminal in whose background the process is (termios(3), TOSTOP), SIGXFSZ of a file that may not
// grow (RLIMIT_FSIZE).
func neverSuspend() { sigmask.Block(unix.SIGTTIN, unix.SIGTTOU, unix.SIGXFSZ) }

// orphaned reports whether a process group is orphaned (setpgid(2)): no member has a parent in the same session and
// another group. A parent that /proc hides does not count: then graceful does not suspend itself, which is the safe
// error.
func orphaned(group int) bool {
	for pid, p := range living() {
		if p.Group == group && p.PPID != 0 && hasShell(group, pid, p.PPID) {
			return false
		}
	}
	return true
}

// suspendGroup sends sig to the calling process's group with the default action set. The Go runtime cannot set that:
// it ignores a signal that the program no longer listens to. restore sets the handler from before; it is nil if
// nothing has changed.
func suspendGroup(sig syscall.Signal) (restore func()) {
	const setSize = 8              // bytes of a sigset_t in the kernel
	var byDefault, before [64]byte // struct sigaction: SIG_DFL, no flags, empty mask
	change := func(to, old *[64]byte) {
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
			uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(old)), setSize, 0, 0)
	}
	if sig != unix.SIGSTOP {
		change(&byDefault, &before)
		restore = func() { change(&before, nil) }
	}
	_ = unix.Kill(0, sig)
	return restore
}
