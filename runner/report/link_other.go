//go:build unix && !linux

package report

import "golang.org/x/sys/unix"

// searchFlags open a directory in which names are looked up.
const searchFlags = unix.O_RDONLY | unix.O_DIRECTORY

// fdDir is the directory of our own descriptors.
const fdDir = "/dev/fd/"

// readLink examines a file, and returns the text of a link. It fails with ELOOP if another file has the name by then.
func readLink(dir int, name string) (st unix.Stat_t, to string, err error) {
	if st, err = statAt(dir, name); err != nil || identityOf(st).kind != unix.S_IFLNK {
		return st, "", err
	}
	if to, err = readLinkAt(dir, name); err != nil {
		return st, "", err
	}
	after, err := statAt(dir, name)
	if err == nil && (identityOf(after) != identityOf(st) || after.Uid != st.Uid || after.Ctim != st.Ctim) {
		err = unix.ELOOP
	}
	return st, to, err
}

// isMagic reports whether links in a directory are the kernel's own: there are none.
func isMagic(int, unix.Stat_t) bool { return false }
