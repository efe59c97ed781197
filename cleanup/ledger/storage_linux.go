package ledger

import (
	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// memoryFile creates a file in memory (memfd_create(2)). On Linux 6.3 or later the file is not executable, because
// vm.memfd_noexec may forbid executable ones.
func memoryFile() (int, error) {
	fd, err := unix.MemfdCreate("graceful-ledger", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("graceful-ledger", unix.MFD_CLOEXEC)
	}
	return fd, err
}

// allocate allocates disk space. It keeps the size of the file, so that readers never see NUL bytes.
func allocate(fd int, at, bytes int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, at, bytes)
}

// syncData waits until the data of a file is on the disk.
func syncData(fd int) error { return unix.Fdatasync(fd) }

// IsNetwork reports whether a file system is of a kind that several machines may use over a network at the same time.
func IsNetwork(st unix.Statfs_t) bool {
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC,
		unix.AFS_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC:
		return true
	}
	return false
}

// IsShared reports whether other machines may use the ledger at the same time. If that is unknown, it returns false.
func (l *Ledger) IsShared() bool {
	var st unix.Statfs_t
	return l != nil && eintr.Retry(func() error { return unix.Fstatfs(l.fd, &st) }) == nil && IsNetwork(st)
}
