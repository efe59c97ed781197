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

// withoutSIGTTOU calls f with SIGTTOU ignored. On this system graceful cannot set the signal mask of one thread, so
// SIGTTOU stays ignored afterwards. Processes that were started before are not affected.
func withoutSIGTTOU(f func()) {
	signal.Ignore(unix.SIGTTOU)
	f()
}

func neverSuspend() {}

// orphaned reports whether a process group is orphaned. It examines only graceful's parent, because this system does
// not show the parents of other members.
func orphaned(group int) bool { return !hasShell(group, 0, os.Getppid()) }

// suspendGroup uses SIGSTOP, because Go's handler cannot be removed temporarily on this system, and SIGSTOP always has
// its default action.
func suspendGroup(syscall.Signal) (restore func()) {
	_ = unix.Kill(0, unix.SIGSTOP)
	return nil
}
