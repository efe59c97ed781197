package ledger

import "golang.org/x/sys/unix"

// memoryFile makes a file without a name. It asks for one that cannot be executed (Linux 6.3), because
// vm.memfd_noexec may forbid any other.
func memoryFile() (int, error) {
	fd, err := unix.MemfdCreate("graceful-ledger", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("graceful-ledger", unix.MFD_CLOEXEC)
	}
	return fd, err
}

// allocate leaves the size as it is: a reader is not to find NUL bytes.
func allocate(fd int, at, bytes int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, at, bytes)
}

func syncData(fd int) error { return unix.Fdatasync(fd) }
