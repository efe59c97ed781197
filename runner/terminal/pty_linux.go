package terminal

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// neverStopped keeps the calling thread from the signals that its own reading and writing bring: of a terminal in
// whose background we are, which may stop us for it (termios(3), TOSTOP), and of a file that may not grow
// (RLIMIT_FSIZE).
func neverStopped() (undo func()) {
	var set, before unix.Sigset_t
	bits := uint(len(set.Val)) // the words are as wide as a C long
	width := 8 * 128 / bits
	for _, sig := range []syscall.Signal{unix.SIGTTIN, unix.SIGTTOU, unix.SIGXFSZ} {
		set.Val[uint(sig-1)/width] |= 1 << (uint(sig-1) % width)
	}
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, &before)
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }
}
