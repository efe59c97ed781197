//go:build unix && !linux

package terminal

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	getModes    = unix.TIOCGETA
	setModesNow = unix.TIOCSETA
)

// withoutSIGTTOU calls f. A thread's signal mask cannot be set here, so SIGTTOU stays ignored afterwards. That does not
// reach processes that were started before.
func withoutSIGTTOU(f func()) {
	signal.Ignore(unix.SIGTTOU)
	f()
}

func neverSuspend() {}

// orphaned reports whether a process group is orphaned, as far as graceful's parent tells: the parents of the other
// members of the group are unknown here.
func orphaned(group int) bool { return !hasShell(group, 0, os.Getppid()) }

// suspendGroup uses SIGSTOP, which needs no default action: a handler of Go's cannot be taken away for a moment here.
func suspendGroup(syscall.Signal) (restore func()) {
	_ = unix.Kill(0, unix.SIGSTOP)
	return nil
}
