package cmd

import "golang.org/x/sys/unix"

// blockTTOU lets the calling thread write to a terminal in whose background we are: where TOSTOP is set, the
// kernel stops only those who do not block or ignore the signal (tty_ioctl(4), termios(3)).
func blockTTOU() {
	var set unix.Sigset_t
	bits := uint(len(set.Val)) // the words are as wide as a C long
	width := 8 * 128 / bits
	set.Val[uint(unix.SIGTTOU-1)/width] |= 1 << (uint(unix.SIGTTOU-1) % width)
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
}
