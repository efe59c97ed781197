package terminal

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/sigstate"
)

const (
	getModes    = unix.TCGETS
	setModesNow = unix.TCSETS // TCSETSW would wait for output that a terminal does not show after Ctrl-S
)

// withoutSIGTTOU calls f with SIGTTOU blocked, so that f can change a terminal from the background.
func withoutSIGTTOU(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer sigstate.Block(unix.SIGTTOU)()
	f()
}

// neverSuspend permanently blocks, in the calling thread, the signals that the reads and writes of this thread cause.
// These are SIGTTIN and SIGTTOU from a terminal while the process is in the background (termios(3), TOSTOP), and
// SIGXFSZ from a file at its size limit (RLIMIT_FSIZE).
func neverSuspend() { sigstate.Block(unix.SIGTTIN, unix.SIGTTOU, unix.SIGXFSZ) }

// orphaned reports whether a process group is orphaned (setpgid(2)): no member has a parent in the same session and
// another group. orphaned ignores a member that /proc hides, and a parent outside of the PID namespace. Without /proc,
// it returns true. If true is wrong, graceful only fails to suspend itself. If false were wrong, graceful could stay
// suspended, because no shell would continue it.
func orphaned(group int) bool {
	for pid, p := range living() {
		if p.Group == group && p.PPID != 0 && hasShell(group, pid, p.PPID) {
			return false
		}
	}
	return true
}

// suspendGroup sets sig to its default action in this process, and sends sig to the group of this process. restore sets
// the old action. For SIGSTOP, which has no other action, restore is nil.
func suspendGroup(sig syscall.Signal) (restore func()) {
	if sig != unix.SIGSTOP {
		restore = sigstate.Default(sig)
	}
	_ = unix.Kill(0, sig)
	return restore
}
