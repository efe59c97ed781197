package process

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// makeNull returns a descriptor that behaves like /dev/null, without a device. It is a datagram socket that is
// connected to itself. Its receiving side is shut down, and a filter rejects each datagram. Linux drops a rejected
// datagram and reports no error to the sender. So a write does not block, does not fail and uses no memory. A pipe
// would block when it is full, or raise SIGPIPE without a reader. A file in memory would grow.
//
// A single write that is larger than the socket's buffer fails (EMSGSIZE). The buffer is as large as the system allows.
// If the socket cannot be made, makeNull returns EmptyInput.
func makeNull() (*os.File, error) {
	fd, err := nullSocket()
	if err != nil { // a seccomp filter may refuse the socket; a write to the pipe's read end fails without a signal
		return EmptyInput()
	}
	return os.NewFile(uintptr(fd), "null"), nil
}

func nullSocket() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	const largest = 1 << 30 // bytes; the system reduces it
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, largest)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20)
	rejectAll := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	filter := unix.SockFprog{Len: uint16(len(rejectAll)), Filter: &rejectAll[0]}
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &filter),
		unix.Bind(fd, &unix.SockaddrUnix{}), // the system chooses an abstract name
	)
	if err == nil {
		var self unix.Sockaddr
		if self, err = unix.Getsockname(fd); err == nil {
			err = unix.Connect(fd, self)
		}
	}
	if err == nil {
		err = unix.Shutdown(fd, unix.SHUT_RD)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("a socket that discards: %w", err), unix.Close(fd))
	}
	return fd, nil
}
