package report

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// newMode is the mode of a report, unless it replaces a file of ours that has another one.
const newMode = 0o600

// Write writes the report, once. A regular file is replaced as a whole or not at all, by way of a file named draft
// beside it, which is removed if it exists. Writing to a stream fails after patience.
func (f *File) Write(text []byte, draft string, patience time.Duration) error {
	if f.failure != nil {
		return f.failure
	}
	if f.stream < 0 && f.unopened != (identity{}) {
		if err := f.openStream(); err != nil {
			return err
		}
	}
	if f.stream >= 0 {
		return f.writeStream(text, patience)
	}
	err := replaceBelow(f.dir, names(f.rest), draft, text)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	// The directory was removed, and perhaps made again (make clean all).
	root, err := openAt(unix.AT_FDCWD, "/", searchFlags)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	return replaceBelow(root, names(f.path), draft, text)
}

// replaceBelow replaces a file. path leads to it from dir, and no link is followed.
func replaceBelow(dir int, path []string, draft string, text []byte) error {
	for ; len(path) > 1; path = path[1:] {
		next, err := openAt(dir, path[0], searchFlags|unix.O_NOFOLLOW)
		if err != nil {
			return err
		}
		defer unix.Close(next)
		dir = next
	}
	return replace(dir, path[0], draft, text)
}

// replace replaces what has the name, also a link, which it does not follow.
func replace(dir int, name, draft string, text []byte) error {
	mode, err := modeFor(dir, name)
	if err != nil {
		return err
	}
	remove := func() error { return retry(func() error { return unix.Unlinkat(dir, draft, 0) }) }
	if err := remove(); err != nil && err != unix.ENOENT {
		return err
	}
	fd, err := openAt(dir, draft, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), draft)
	_ = f.Chmod(mode) // whatever the umask is
	if err = write(f, 0, text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = retry(func() error { return unix.Renameat(dir, draft, dir, name) })
	}
	if err != nil {
		_ = remove()
	}
	return err
}

// modeFor returns the mode of a report: that of the regular file of ours that it replaces, or newMode. It fails if what
// has the name must not be replaced.
func modeFor(dir int, name string) (fs.FileMode, error) {
	st, err := statAt(dir, name)
	if err == unix.ENOENT {
		return newMode, nil
	}
	if err != nil {
		return 0, err
	}
	switch identityOf(st).kind {
	case unix.S_IFDIR:
		return 0, unix.EISDIR
	case unix.S_IFBLK:
		return 0, errBlockDevice
	case unix.S_IFCHR:
		return 0, errReplaced
	case unix.S_IFREG:
		if st.Uid == uint32(os.Geteuid()) {
			return fs.FileMode(st.Mode & 0o777), nil
		}
	}
	return newMode, nil
}

func (f *File) writeStream(text []byte, patience time.Duration) error {
	st, err := statOf(f.stream)
	if err != nil {
		return err
	}
	stream := os.NewFile(uintptr(f.stream), f.path)
	f.stream = -1
	if identityOf(st).kind == unix.S_IFREG {
		err = write(stream, st.Size, text)
	} else {
		_ = stream.SetWriteDeadline(time.Now().Add(patience))
		_, err = stream.Write(text)
	}
	return errors.Join(err, stream.Close())
}

// write writes to a regular file of that size. It does not try what would exceed RLIMIT_FSIZE: the kernel would send
// SIGXFSZ.
func write(f *os.File, size int64, text []byte) error {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &limit) == nil && uint64(limit.Cur) < uint64(size)+uint64(len(text)) {
		return unix.EFBIG
	}
	_, err := f.Write(text)
	return err
}
