package doctor

import "golang.org/x/sys/unix"

// fileSystem reports whether a directory ends with the machine or the container. why says that it does, or that other
// machines may share it; "": nothing speaks against the directory.
func fileSystem(dir string) (why string, ends bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return "", false
	}
	switch uint32(st.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return "it is in memory (tmpfs), and ends with the machine", true
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "it is in a layer of a container (overlay), and ends with that", true
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC,
		unix.AFS_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC:
		return "it is on a network: another machine that uses it may take runs of this one for killed", false
	}
	return "", false
}
