package cmd

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// blockOwn keeps the calling thread from the signals that its own writing brings. SIGTTOU: where TOSTOP is set, the kernel
// stops those who write to a terminal from its background, unless they block or ignore the signal (tty_ioctl(4),
// termios(3)). SIGXFSZ: it comes when RLIMIT_FSIZE forbids a file to grow, to the thread that writes, and stays with it.
func blockOwn() {
	var set unix.Sigset_t
	bits := uint(len(set.Val)) // the words are as wide as a C long
	width := 8 * 128 / bits
	for _, sig := range []syscall.Signal{unix.SIGTTOU, unix.SIGXFSZ} {
		set.Val[uint(sig-1)/width] |= 1 << (uint(sig-1) % width)
	}
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
}
