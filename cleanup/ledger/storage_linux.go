package ledger

import "golang.org/x/sys/unix"

// memoryFile creates a file without a name. It asks for one that cannot be executed (Linux 6.3), since vm.memfd_noexec
// may forbid others.
func memoryFile() (int, error) {
	fd, err := unix.MemfdCreate("graceful-ledger", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("graceful-ledger", unix.MFD_CLOEXEC)
	}
	return fd, err
}

// allocate allocates disk space. It keeps the size of the file, so that a reader finds no NUL bytes.
func allocate(fd int, at, bytes int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, at, bytes)
}

// syncData waits until the data of a file is on the disk.
func syncData(fd int) error { return unix.Fdatasync(fd) }
