package ledger

import (
	"cmp"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// openTrusted opens a file or directory of the given kind (S_IFREG, S_IFDIR) that no other user may write to. It
// neither follows a link nor blocks, and it creates files with mode 0600.
func openTrusted(dir int, name string, flags int, kind uint32) (fd int, err error) {
	fd, err = eintr.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		// The kind says more than the error: open(2) has many errors for links and sockets.
		if st, statErr := eintr.Lstatat(dir, name); statErr == nil {
			err = cmp.Or(checkTrust(&st, kind), err)
		}
		return -1, err
	}
	st, err := eintr.Fstat(fd)
	if err = cmp.Or(err, checkTrust(&st, kind)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// checkTrust returns an error if a file or directory is of another kind, is larger than MaxSize, or if another user may
// have made it or may write to it.
func checkTrust(st *unix.Stat_t, kind uint32) error {
	is, uid := uint32(st.Mode)&unix.S_IFMT, os.Geteuid()
	switch {
	case is != kind:
		return fmt.Errorf("it is %s, not %s", cmp.Or(kindNames[is], "a device"), kindNames[kind])
	case int(st.Uid) != uid:
		return fmt.Errorf("it belongs to user %d, and we are user %d", st.Uid, uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("group or others may write to it, its mode is %04o (chmod go-w)", st.Mode&0o7777)
	case kind == unix.S_IFREG && st.Nlink > 1:
		return fmt.Errorf("it has %d names, and may be reached by another (only one hard link is allowed)", st.Nlink)
	}
	return checkSize(st.Size)
}

// kindNames names the kinds of files in messages.
var kindNames = map[uint32]string{
	unix.S_IFREG:  "a regular file",
	unix.S_IFDIR:  "a directory",
	unix.S_IFLNK:  "a symbolic link",
	unix.S_IFIFO:  "a FIFO",
	unix.S_IFSOCK: "a socket",
}
