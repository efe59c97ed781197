package cmd

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// blockWriteSignals blocks, in the calling thread, the signals that its own writes can raise. SIGTTOU suspends a
// background process that writes to a terminal with TOSTOP set (tty_ioctl(4), termios(3)). SIGXFSZ goes to the writing
// thread when RLIMIT_FSIZE forbids the file to grow; blocked, it stays pending there.
func blockWriteSignals() {
	const signals = 8 * 128 // the size of unix.Sigset_t, in bits
	var set unix.Sigset_t
	width := signals / uint(len(set.Val)) // its words are as wide as a C long
	for _, sig := range []syscall.Signal{unix.SIGTTOU, unix.SIGXFSZ} {
		set.Val[uint(sig-1)/width] |= 1 << (uint(sig-1) % width)
	}
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
}
