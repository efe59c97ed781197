package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// maxLinks is the maximum number of links that Linux follows in one path (path_resolution(7)).
const maxLinks = 40

// openTrustedDir opens a directory, and fails if another user may write to it. It follows a symbolic link at the end of
// the absolute path if no other user can replace that link. systemd makes such a link for a unit with DynamicUser=yes.
func openTrustedDir(path string) (fd int, err error) {
	for links := 0; ; links++ {
		fd, err = openTrusted(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, unix.S_IFDIR)
		switch {
		case err == unix.ENOENT && links > 0: // not fs.ErrNotExist: MakeDir cannot create it
			return -1, errors.New("it is a symbolic link to a directory that does not exist")
		case err == nil || !isLink(path):
			return fd, err
		case links == maxLinks:
			return -1, unix.ELOOP
		}
		if unsafe := unsafeLink(path); unsafe != nil {
			return -1, fmt.Errorf("%w, which is not followed: %w", err, unsafe)
		}
		target, err := os.Readlink(path)
		if err != nil {
			return -1, err
		}
		if target = strings.TrimRight(target, "/"); !strings.HasPrefix(target, "/") {
			target = dirOf(path) + target // the kernel resolves .. in it
		}
		path = cmp.Or(target, "/")
	}
}

// unsafeLink returns an error if another user can replace a symbolic link.
func unsafeLink(path string) error {
	var around unix.Stat_t
	err := eintr.Retry(func() error { return unix.Stat(dirOf(path), &around) })
	link, linkErr := eintr.Lstatat(unix.AT_FDCWD, path)
	if err := cmp.Or(err, linkErr); err != nil {
		return err
	}
	for _, e := range []*ParentError{
		{Path: path, Link: true, Owner: link.Uid},
		{Path: dirOf(path), Owner: around.Uid, Mode: uint32(around.Mode) & 0o7777},
	} {
		if e.foreign() || e.writable() {
			return e
		}
	}
	return nil
}

// dirOf returns an absolute path without its last name. It does not clean the path, because ".." after a symbolic link
// means the parent of the link's destination.
func dirOf(path string) string { return path[:strings.LastIndexByte(path, '/')+1] }

func isLink(path string) bool {
	st, err := eintr.Lstatat(unix.AT_FDCWD, path)
	return err == nil && uint32(st.Mode)&unix.S_IFMT == unix.S_IFLNK
}
