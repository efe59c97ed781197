package runner

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pollerDescriptors is the maximum number of descriptors that the poller of the Go runtime opens. They are an epoll(7)
// and an eventfd(2), or a kqueue(2) and a pipe(2).
const pollerDescriptors = 3

// startPoller makes the Go runtime open its poller. Otherwise the first file or timer would open the poller, and the
// runtime aborts the process if it has no descriptor for the poller. So startPoller first checks that there are enough
// descriptors. If there are too few, startPoller returns EMFILE or ENFILE, and graceful starts no process. Before
// startPoller returns that error, it closes standard input and output, because writing the error to standard error
// needs a timer, and so the poller.
var startPoller = sync.OnceValue(func() error {
	fds, err := duplicates(pollerDescriptors)
	closeAll(fds)
	if err != nil {
		_, _ = unix.Close(0), unix.Close(1)
		return fmt.Errorf("descriptors for the Go runtime: %w", err)
	}
	time.AfterFunc(time.Hour, func() {}).Stop()
	return nil
})

// spareDescriptors opens descriptors as a reserve. The caller closes them before it looks at processes. To look at a
// process, graceful needs descriptors for a directory, a file in it, and a pidfd. With the reserve, an optional part
// such as the guard fails first if descriptors are short, and the search for survivors still works. The reserve costs
// system calls, so it is empty where many descriptors are allowed.
func spareDescriptors() ([]int, error) {
	const few, spare = 64, 3
	if maxPidfds() > few/4 {
		return nil, nil
	}
	fds, err := duplicates(spare)
	if err != nil {
		closeAll(fds)
		return nil, fmt.Errorf("descriptors for looking at processes: %w", err)
	}
	return fds, nil
}

// duplicates opens n descriptors. If that fails, it returns the descriptors that it has opened, with the error.
func duplicates(n int) (fds []int, err error) {
	for range n {
		fd, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// hintAtLimit returns a hint with the limit to raise if a lack of descriptors has caused the error, and otherwise "".
func hintAtLimit(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE):
		return " (too few descriptors are allowed: see ulimit -n)"
	case errors.Is(err, unix.ENFILE):
		return " (the system allows too few open files: see sysctl fs.file-max)"
	}
	return ""
}
