package runner

import (
	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/eintr"
	"graceful/runner/terminal"
)

// deadOutputs returns the outputs of graceful that no longer have a reader. A command that writes to them would get
// SIGPIPE or an error.
func deadOutputs() cleanup.Outputs {
	return cleanup.Outputs{Stdout: isDead(unix.Stdout), Stderr: isDead(unix.Stderr)}
}

// isDead reports whether a descriptor is a pipe or a socket without a reader, or a terminal after a hangup.
func isDead(fd int) bool {
	switch kindOf(fd) {
	case unix.S_IFIFO:
	case unix.S_IFSOCK:
		if isShutDown(fd) {
			return true
		}
	case unix.S_IFCHR:
		if !terminal.WasTerminal(fd) { // other devices report POLLERR and POLLHUP with other meanings
			return false
		}
	default: // do not poll a regular file, because its file system may not answer
		return false
	}
	state := []unix.PollFd{{Fd: int32(fd)}}
	n, err := eintr.RetryValue(func() (int, error) { return unix.Poll(state, 0) })
	return err == nil && n > 0 && state[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
