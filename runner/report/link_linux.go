package report

import (
	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// searchFlags are the flags for open(2) to open a directory for looking up names. The process need not be allowed to
// read the directory.
const searchFlags = unix.O_PATH | unix.O_DIRECTORY

// fdDir is the directory with the descriptors of this process.
const fdDir = "/proc/self/fd/"

// readLink returns the status of a file, and its text if the file is a link. Both belong to the same file, even if
// another file gets the name meanwhile.
func readLink(dir int, name string) (st unix.Stat_t, to string, err error) {
	fd, err := eintr.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return st, "", err
	}
	defer unix.Close(fd)
	if st, err = eintr.Fstat(fd); err == nil && kindOf(st) == unix.S_IFLNK {
		to, err = readLinkAt(fd, "")
	}
	return st, to, err
}

// isMagic reports whether the links in a directory are magic (proc_pid_root(5), proc_pid_cwd(5)): the text of a link in
// a process's directory in /proc is a path in the view of that process. fd and dir are the descriptor and the status of
// the directory.
func isMagic(fd int, dir unix.Stat_t) bool {
	const procRootIno = 1 // inode number of /proc itself, whose links are ordinary
	var fs unix.Statfs_t
	err := eintr.Retry(func() error { return unix.Fstatfs(fd, &fs) })
	return err == nil && fs.Type == unix.PROC_SUPER_MAGIC && dir.Ino != procRootIno
}
