package report

import "golang.org/x/sys/unix"

// searchFlags open a directory in which names are looked up. It may be one that we may not read.
const searchFlags = unix.O_PATH | unix.O_DIRECTORY

// fdDir is the directory of our own descriptors.
const fdDir = "/proc/self/fd/"

// readLink examines a file, and returns the text of a link. Both are of the same file, whatever its name is meanwhile.
func readLink(dir int, name string) (st unix.Stat_t, to string, err error) {
	fd, err := openAt(dir, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return st, "", err
	}
	defer unix.Close(fd)
	if st, err = statOf(fd); err == nil && identityOf(st).kind == unix.S_IFLNK {
		to, err = readLinkAt(fd, "")
	}
	return st, to, err
}

// isMagic reports whether links in a directory are the kernel's own (proc_pid_root(5), proc_pid_cwd(5)): in a process's
// directory in /proc a link's text is a path of that process and not ours.
func isMagic(fd int, dir unix.Stat_t) bool {
	const procRootIno = 1 // inode number of /proc itself, whose links are plain ones
	var fs unix.Statfs_t
	err := retry(func() error { return unix.Fstatfs(fd, &fs) })
	return err == nil && fs.Type == unix.PROC_SUPER_MAGIC && dir.Ino != procRootIno
}
