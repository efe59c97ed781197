package runner

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pollerDescriptors is how many descriptors the poller of the Go runtime opens, at most: an epoll(7) and an eventfd(2),
// or a kqueue(2) and a pipe(2).
const pollerDescriptors = 3

// startPoller makes the Go runtime open its poller, which it otherwise does with the first file or timer. The runtime
// aborts the process if it has no descriptor for it. So startPoller first finds out whether there are enough, and
// otherwise returns EMFILE or ENFILE. Nothing can be started then. It closes standard input and output for a poller:
// writing the error to standard error needs a timer.
var startPoller = sync.OnceValue(func() error {
	var err error
	var fds []int
	for range pollerDescriptors {
		var fd int
		if fd, err = unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			break
		}
		fds = append(fds, fd)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	if err != nil {
		_, _ = unix.Close(0), unix.Close(1)
		return fmt.Errorf("descriptors for the Go runtime: %w", err)
	}
	time.AfterFunc(time.Hour, func() {}).Stop()
	return nil
})

// hintAtLimit returns the limit to raise if an error is for want of descriptors.
func hintAtLimit(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE):
		return " (too few descriptors are allowed: see ulimit -n)"
	case errors.Is(err, unix.ENFILE):
		return " (the system allows too few open files: see sysctl fs.file-max)"
	}
	return ""
}
