//go:build unix && !linux

package cmd

// blockWriteSignals does nothing outside Linux. There, a message from the background to a terminal with TOSTOP set
// suspends graceful until it is continued, and a write that RLIMIT_FSIZE forbids sends SIGXFSZ to graceful, which
// forwards it to the target.
func blockWriteSignals() {}
