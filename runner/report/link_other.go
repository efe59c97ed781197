//go:build unix && !linux

package report

import (
	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// searchFlags are the flags for open(2) to open a directory for looking up names.
const searchFlags = unix.O_RDONLY | unix.O_DIRECTORY

// fdDir is the directory with the descriptors of this process.
const fdDir = "/dev/fd/"

// readLink returns the status of a file, and its text if the file is a link. readLink fails with ELOOP if another file
// gets the name meanwhile.
func readLink(dir int, name string) (st unix.Stat_t, to string, err error) {
	if st, err = eintr.Lstatat(dir, name); err != nil || kindOf(st) != unix.S_IFLNK {
		return st, "", err
	}
	if to, err = readLinkAt(dir, name); err != nil {
		return st, "", err
	}
	after, err := eintr.Lstatat(dir, name)
	if err == nil && (fileIDOf(after) != fileIDOf(st) || after.Uid != st.Uid || after.Ctim != st.Ctim) {
		err = unix.ELOOP
	}
	return st, to, err
}

// isMagic returns false, because other systems have no magic links.
func isMagic(int, unix.Stat_t) bool { return false }
