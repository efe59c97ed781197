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

// withoutSIGTTOU calls f with SIGTTOU blocked, so that f can change a terminal from the background.
func withoutSIGTTOU(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer sigstate.Block(unix.SIGTTOU)()
	f()
}

// neverSuspend permanently blocks, in the calling thread, the signals that its own reads and writes cause. These are
// SIGTTIN and SIGTTOU from a terminal while the process is in the background (termios(3), TOSTOP), and SIGXFSZ from a
// file at its size limit (RLIMIT_FSIZE).
func neverSuspend() { sigstate.Block(unix.SIGTTIN, unix.SIGTTOU, unix.SIGXFSZ) }

// orphaned reports whether a process group is orphaned (setpgid(2)): no member has a parent in the same session and
// another group. It ignores a parent that /proc hides. Then it may return true by mistake, and graceful does not
// suspend itself. The opposite mistake would be worse.
func orphaned(group int) bool {
	for pid, p := range living() {
		if p.Group == group && p.PPID != 0 && hasShell(group, pid, p.PPID) {
			return false
		}
	}
	return true
}

// suspendGroup sends sig to the calling process's group with the default action set. restore sets the old action; it is
// nil if nothing has changed.
func suspendGroup(sig syscall.Signal) (restore func()) {
	if sig != unix.SIGSTOP {
		restore = sigstate.Default(sig)
	}
	_ = unix.Kill(0, sig)
	return restore
}
