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

// withoutTTOU: there is no mask of ours here. It stays ignored, which matters to nobody who has been started before.
func withoutTTOU(f func()) {
	signal.Ignore(unix.SIGTTOU)
	f()
}

// processes cannot be listed.
func processes() map[int]process { return nil }

// orphaned is true for certain knowledge only of the process that started us: a script's group may be or not.
func orphaned(group int) bool {
	parent := os.Getppid()
	theirs, err := unix.Getpgid(parent)
	ours, err1 := unix.Getsid(0)
	session, err2 := unix.Getsid(parent)
	return err != nil || err1 != nil || err2 != nil || theirs == group || ours != session
}

// stopGroup: a handler of Go's cannot be taken away for a moment, but what nobody can catch needs none.
func stopGroup(syscall.Signal) (undo func()) {
	_ = unix.Kill(0, unix.SIGSTOP)
	return nil
}
