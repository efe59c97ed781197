package runner

import "golang.org/x/sys/unix"

// waitFor returns a function that waits for the end of a process. That function returns false if it cannot wait (before
// Linux 5.3).
func waitFor(pid int) (wait func() bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return func() bool { return err == unix.ESRCH }
	}
	return func() bool {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if n == 1 || err != nil && err != unix.EINTR {
				return n == 1
			}
		}
	}
}
