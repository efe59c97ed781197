// Package report collects the content of a run's report, opens its destination before the target starts, and writes the
// report at the end. It follows a link only if the link belongs to graceful's user or to the owner of its directory. It
// follows no link after the target has started, except to a descriptor, and never writes to a block device.
package report

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

var (
	// errBlockDevice means that the report's path leads to a block device.
	errBlockDevice = errors.New("it is a block device (a report can go to a file, a FIFO or a terminal)")
	// errForeignLink means that the report's path contains a link that graceful does not follow because of its owner.
	errForeignLink = errors.New("links are followed only if they belong to us or to their directory's owner")
	// errForeignFIFO means that another user may read the report's FIFO.
	errForeignFIFO = errors.New("a FIFO has to belong to us or to its directory's owner")
	// errReplaced means that another file has the name of the destination.
	errReplaced = errors.New("it was replaced while the run went on")
)

// File is the destination of a report. For a regular file, Write replaces the file in the directory to which the path
// led when File was opened, wherever the path leads later, unless that directory was removed. A stream (FIFO, terminal,
// device, descriptor) is opened at once if possible.
//
// Descriptors are plain numbers, because the Go runtime would poll the descriptor of an os.File.
type File struct {
	path    string
	failure error // what Write returns; nil: stream or dir is set

	stream   int    // descriptor of the stream; -1: none
	unopened fileID // stream that open has found, perhaps a FIFO that has no reader yet; zero: none

	dir  int    // descriptor of the last existing directory of the path; -1: none
	rest string // path below dir: directories that did not exist, and the name of the file
}

// Open opens the destination at an absolute path. It returns an error if the path leads to a block device, or to a link
// or a FIFO that isTrusted refuses. Then the caller must not start the run. Write returns all other failures.
func Open(path string) (*File, error) {
	f := newFile(path)
	err := f.open(maxLinks)
	if fd, ok := standard[path]; ok && f.path == fdPath(fd) {
		f.path = path
	}
	isBad := func(bad error) bool { return errors.Is(err, bad) }
	if slices.ContainsFunc([]error{errBlockDevice, errForeignLink, errForeignFIFO}, isBad) {
		return nil, errors.Join(err, f.Close())
	}
	f.failure = err
	return f, nil
}

// Reopen opens the destination at a path that File.Path has returned in another process. It follows no link, except to
// a descriptor. Write returns every failure.
func Reopen(path string) *File {
	f := newFile(path)
	if fd, ok := standard[path]; ok {
		f.failure = f.openDescriptor(fd)
	} else {
		f.failure = f.open(0)
	}
	return f
}

// Inherit returns the File of another process. text comes from Inheritance, and this process has inherited the
// descriptors under the same numbers. path comes from File.Path. For the text of a nil *File, Inherit returns nil.
func Inherit(text, path string) (*File, error) {
	if text == "" {
		return nil, nil
	}
	f := newFile(path)
	var rest int
	var errno syscall.Errno
	_, err := fmt.Sscanf(text, inheritance,
		&f.dir, &f.stream, &rest, &f.unopened.kind, &f.unopened.dev, &f.unopened.ino, &errno)
	if err != nil || rest < 0 || rest > len(path) {
		return nil, fmt.Errorf("the destination of the report %q: %w", text, errors.Join(err, unix.EINVAL))
	}
	if errno != 0 {
		f.failure = errno
	}
	f.rest = path[len(path)-rest:]
	for _, fd := range f.descriptors() {
		unix.CloseOnExec(fd)
	}
	return f, nil
}

// inheritance is the format of the text of Inheritance: dir, stream, length of rest, unopened (3 numbers), failure (an
// errno).
const inheritance = "%d,%d,%d,%d,%d,%d,%d"

// Inheritance returns the text for Inherit in another process, and the descriptors that the other process must inherit
// under the same numbers. For a nil *File it returns "" and none.
func (f *File) Inheritance() (text string, fds []int) {
	if f == nil {
		return "", nil
	}
	errno, _ := errors.AsType[syscall.Errno](f.failure)
	u := f.unopened
	return fmt.Sprintf(inheritance, f.dir, f.stream, len(f.rest), u.kind, u.dev, u.ino, int(errno)), f.descriptors()
}

// Path returns the path at which Reopen opens the same destination. If Open has resolved the destination, that path
// contains no link, except to a descriptor.
func (f *File) Path() string { return f.path }

// Close closes the descriptors. It does nothing for a nil *File.
func (f *File) Close() (err error) {
	if f == nil {
		return nil
	}
	for _, fd := range f.descriptors() {
		err = errors.Join(err, unix.Close(fd))
	}
	f.dir, f.stream = -1, -1
	return err
}

func newFile(path string) *File { return &File{path: path, dir: -1, stream: -1} }

// descriptors returns the open descriptors.
func (f *File) descriptors() []int {
	return slices.DeleteFunc([]int{f.dir, f.stream}, func(fd int) bool { return fd < 0 })
}

// open resolves the path, following at most the given number of links. It opens the stream or, for a file, the
// directory to which the path leads.
func (f *File) open(links int) error {
	r := resolver{dir: unix.AT_FDCWD, restNames: names(f.path), linksLeft: links}
	err := r.resolve()
	defer func() {
		if f.dir < 0 && r.dir >= 0 {
			unix.Close(r.dir)
		}
	}()
	if err != nil {
		return err
	}
	f.path = r.path()
	if fd, ok := descriptorOf(f.path); ok {
		if !strings.HasPrefix(f.path, "/dev/fd/") {
			f.path = fdPath(fd)
		}
		return f.openDescriptor(fd)
	}
	id := fileIDOf(r.fileStatus)
	if id.kind == unix.S_IFBLK {
		return errBlockDevice
	}
	if id.kind == unix.S_IFIFO {
		dir, err := eintr.Fstat(r.dir)
		if err != nil {
			return err
		}
		if !isTrusted(r.fileStatus, dir) {
			return fmt.Errorf("it belongs to user %d (%w)", r.fileStatus.Uid, errForeignFIFO)
		}
	}
	f.dir, f.rest = r.dir, strings.Join(r.restNames, "/")
	switch id.kind {
	case 0, unix.S_IFREG, unix.S_IFDIR: // Write creates or replaces the file, or refuses the directory
	default:
		f.unopened = id
		_ = f.openStream() // if this fails, Write tries again
	}
	return nil
}

// openDescriptor opens an inherited descriptor. It duplicates the descriptor of a regular file, so that other writers
// share its offset. It opens any other file again, because a non-blocking descriptor would affect other processes.
func (f *File) openDescriptor(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 { // graceful itself has opened the descriptor
		return unix.EBADF
	}
	st, err := eintr.Fstat(fd)
	if err != nil {
		return err
	}
	switch kindOf(st) {
	case unix.S_IFBLK:
		return errBlockDevice
	case unix.S_IFREG:
		fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	default:
		fd, err = eintr.Openat(unix.AT_FDCWD, fdPath(fd), streamFlags, 0)
	}
	if err == nil {
		f.stream = fd
	}
	return err
}

// fdPath returns a path that opens the file of one of this process's descriptors anew.
func fdPath(fd int) string { return fdDir + strconv.Itoa(fd) }

// streamFlags are the flags with which a stream is opened for writing.
const streamFlags = unix.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY

// openStream opens the stream that open has found. It fails with errReplaced if another file has the same name by now.
func (f *File) openStream() error {
	check := func(st unix.Stat_t, err error) error {
		if err == nil && fileIDOf(st) != f.unopened {
			err = errReplaced
		}
		return err
	}
	if err := check(eintr.Lstatat(f.dir, f.rest)); err != nil {
		return err
	}
	fd, err := eintr.Openat(f.dir, f.rest, streamFlags|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if err := check(eintr.Fstat(fd)); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	f.stream = fd
	return nil
}

// fileID identifies a file among all files that exist at the same time. The zero value means no file.
type fileID struct {
	kind     uint32 // see kindOf
	dev, ino uint64
}

// fileIDOf returns the identity of a file. For the zero status it returns the zero identity.
func fileIDOf(st unix.Stat_t) fileID {
	return fileID{kindOf(st), uint64(st.Dev), uint64(st.Ino)}
}

// kindOf returns the kind of a file: the S_IFMT bits of its mode.
func kindOf(st unix.Stat_t) uint32 { return uint32(st.Mode) & unix.S_IFMT }
