package report

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// newMode is the mode of a new report.
const newMode = 0o600

// Write writes the report, once. It replaces a regular file atomically: it removes an older draft, writes a new draft
// in the same directory, and renames it. draft is the file name of both drafts. Writing to a stream fails after the
// time patience.
func (f *File) Write(text []byte, draft string, patience time.Duration) error {
	if f.failure != nil {
		return f.failure
	}
	if f.stream < 0 && f.unopened != (fileID{}) {
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
	// Use the directory that the path names now. The directory that open has found may be gone: the target may have
	// removed it and created another one with the same name (make clean all).
	return replaceBelow(unix.AT_FDCWD, append([]string{"/"}, names(f.path)...), draft, text)
}

// replaceBelow replaces the file at path, a list of names, relative to dir. It follows no link.
func replaceBelow(dir int, path []string, draft string, text []byte) error {
	for ; len(path) > 1; path = path[1:] {
		next, err := eintr.Openat(dir, path[0], searchFlags|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(next)
		dir = next
	}
	return replace(dir, path[0], draft, text)
}

// replace replaces the file with a name in dir. If that file is a link, replace replaces the link itself. draft is the
// name of a temporary file in dir.
func replace(dir int, name, draft string, text []byte) error {
	mode, err := modeFor(dir, name)
	if err != nil {
		return err
	}
	remove := func() error { return eintr.Retry(func() error { return unix.Unlinkat(dir, draft, 0) }) }
	if err := remove(); err != nil && err != unix.ENOENT {
		return err
	}
	fd, err := eintr.Openat(dir, draft, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, newMode)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), draft)
	_ = f.Chmod(mode) // the umask may have removed bits
	if err = write(f, 0, text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = eintr.Retry(func() error { return unix.Renameat(dir, draft, dir, name) })
	}
	if err != nil {
		_ = remove()
	}
	return err
}

// modeFor returns the mode of the report that replaces the file with a name: the mode of that file if that is a regular
// file of graceful's user, and else newMode. modeFor returns an error if the file must not be replaced.
func modeFor(dir int, name string) (fs.FileMode, error) {
	st, err := eintr.Lstatat(dir, name)
	if err != nil && err != unix.ENOENT {
		return 0, err
	}
	switch kindOf(st) { // 0: there is no file
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

// writeStream writes the report to the stream and closes the stream.
func (f *File) writeStream(text []byte, patience time.Duration) error {
	st, err := eintr.Fstat(f.stream)
	if err != nil {
		return err
	}
	stream := os.NewFile(uintptr(f.stream), f.path)
	f.stream = -1
	if kindOf(st) == unix.S_IFREG {
		err = write(stream, st.Size, text)
	} else {
		_ = stream.SetWriteDeadline(time.Now().Add(patience))
		_, err = stream.Write(text)
	}
	return errors.Join(err, stream.Close())
}

// write writes text to a regular file that has the given size in bytes. It returns EFBIG if the text at the end of the
// file would exceed RLIMIT_FSIZE, because the kernel would also send SIGXFSZ in that case.
func write(f *os.File, size int64, text []byte) error {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &limit) == nil && uint64(limit.Cur) < uint64(size)+uint64(len(text)) {
		return unix.EFBIG
	}
	_, err := f.Write(text)
	return err
}
