package cmd

import (
	"golang.org/x/sys/unix"

	"graceful/runner/sigstate"
)

// blockWriteSignals blocks, in the calling thread, the signals that its own writes can raise. SIGTTOU suspends a
// background process that writes to a terminal with TOSTOP set (tty_ioctl(4), termios(3)). The kernel sends SIGXFSZ to
// the writing thread when RLIMIT_FSIZE forbids the file to grow. While SIGTTOU is blocked, the kernel permits the
// write. A blocked SIGXFSZ stays pending.
func blockWriteSignals() { sigstate.Block(unix.SIGTTOU, unix.SIGXFSZ) }
