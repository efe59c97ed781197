package runner

import "golang.org/x/sys/unix"

// kindOf returns the type of the file of a descriptor (S_IFMT), or 0 if the type is unknown. It does not query the file
// system, which may not answer. But before Linux 4.11, or if a seccomp filter forbids statx(2), it has to query the
// file system.
func kindOf(fd int) uint32 {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	if err == unix.ENOSYS || err == unix.EPERM {
		var old unix.Stat_t
		if unix.Fstat(fd, &old) != nil {
			return 0
		}
		return old.Mode & unix.S_IFMT
	}
	if err != nil {
		return 0
	}
	return uint32(st.Mode) & unix.S_IFMT
}

// isShutDown reports whether a descriptor is a stream socket whose peer accepts no more data. poll(2) does not report
// that while the peer may still send data. sendmsg(2) with an empty message reports it, and transfers nothing.
func isShutDown(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM {
		return false
	}
	_, err = unix.SendmsgN(fd, nil, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return err == unix.EPIPE
}
