package terminal

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/sigstate"
)

const (
	getModes    = unix.TCGETS
	setModesNow = unix.TCSETS // TCSETSW would wait for output that a suspended terminal does not show
)

// withoutSIGTTOU calls f, which may then change a terminal from the background: the kernel suspends no process for it.
func withoutSIGTTOU(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer sigstate.Block(unix.SIGTTOU)()
	f()
}

// neverSuspend protects the calling thread for good from the signals that its own reading and writing cause: SIGTTIN
// and SIGTTOU of a terminal in whose background the process is (termios(3), TOSTOP), SIGXFSZ of a file that may not
// grow (RLIMIT_FSIZE).
func neverSuspend() { sigstate.Block(unix.SIGTTIN, unix.SIGTTOU, unix.SIGXFSZ) }

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

// suspendGroup sends sig to the calling process's group with the default action set. restore sets the action from
// before; it is nil if nothing has changed.
func suspendGroup(sig syscall.Signal) (restore func()) {
	if sig != unix.SIGSTOP {
		restore = sigstate.Default(sig)
	}
	_ = unix.Kill(0, sig)
	return restore
}
