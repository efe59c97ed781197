// Package report decides, before a target starts, where the run's report goes, and puts it there at the end; it never
// follows a link that another user made, nor any link once the target has started, nor writes to a block device.
package report

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var errBlockDevice = errors.New("it is a block device (a report can go to a file, a FIFO or a terminal)")

// linkError reports a link in the path that belongs to a user whose links are not followed.
type linkError struct {
	Link  string // its path, which contains no other link
	Owner uint32 // user id
}

func (e *linkError) Error() string {
	return fmt.Sprintf("the link %s belongs to user %d "+
		"(links are followed only if they belong to us or to their directory's owner)", e.Link, e.Owner)
}

// File is the destination of a report. A regular file is replaced in the directory that its path led to when the
// destination was opened, whatever the path leads to later. A stream (FIFO, terminal, device, descriptor) is open
// already.
//
// Descriptors are plain numbers: the Go runtime would poll those of an os.File.
type File struct {
	path    string
	failure error // that Write returns; nil: one of the following is set

	stream   int      // open stream; -1: none
	unopened identity // of a stream that could not be opened yet, a FIFO without a reader; zero: none

	dir  int    // directory that was reached; -1: none
	rest string // path from dir: the file's name, after directories that did not exist
}

// Open opens the destination at an absolute path. It fails only for another user's link and for a block device: the run
// must not start then. Every other failure is returned by Write.
func Open(path string) (*File, error) {
	f := newFile(path)
	err := f.open(maxLinks)
	if fd, ok := standard[path]; ok && f.path == fdPath(fd) {
		f.path = path
	}
	var foreign *linkError
	if errors.Is(err, errBlockDevice) || errors.As(err, &foreign) {
		return nil, errors.Join(err, f.Close())
	}
	f.failure = err
	return f, nil
}

// Reopen opens the destination at a path that File.Path returned in another process. It follows no link. Every failure
// is returned by Write.
func Reopen(path string) *File {
	f := newFile(path)
	if fd, ok := standard[path]; ok {
		f.failure = f.openDescriptor(fd)
	} else {
		f.failure = f.open(0)
	}
	return f
}

// Inherit returns the File of a process that was started with the text and the descriptors of Inheritance, or nil for
// an empty text. path is File.Path.
func Inherit(text, path string) (*File, error) {
	if text == "" {
		return nil, nil
	}
	f := newFile(path)
	var rest int
	var errno syscall.Errno
	u := &f.unopened
	_, err := fmt.Sscanf(text, inheritance, &f.dir, &f.stream, &rest, &u.kind, &u.dev, &u.ino, &errno)
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

// inheritance is the form of what Inheritance tells: dir, stream, the length of rest, unopened, failure.
const inheritance = "%d,%d,%d,%d,%d,%d,%d"

// Inheritance returns what Inherit is to be called with, and the descriptors. A nil *File has none.
func (f *File) Inheritance() (text string, fds []int) {
	if f == nil {
		return "", nil
	}
	var errno syscall.Errno
	errors.As(f.failure, &errno)
	u := f.unopened
	return fmt.Sprintf(inheritance, f.dir, f.stream, len(f.rest), u.kind, u.dev, u.ino, int(errno)), f.descriptors()
}

// Path returns the path by which Reopen finds the same destination. It contains no link, unless the destination could
// not be resolved.
func (f *File) Path() string { return f.path }

// Close closes the descriptors. It may be called on a nil *File.
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

func (f *File) descriptors() (fds []int) {
	for _, fd := range []int{f.dir, f.stream} {
		if fd >= 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// open resolves the path, along a number of links at the most, and opens what is there.
func (f *File) open(links int) error {
	r := resolver{dir: -1, links: links}
	err := r.resolve(f.path)
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
	id := identityOf(r.last)
	if id.kind == unix.S_IFBLK {
		return errBlockDevice
	}
	f.dir, f.rest = r.dir, strings.Join(r.rest, "/")
	switch id.kind {
	case 0, unix.S_IFREG, unix.S_IFDIR: // nothing, or what the target may remove
	default:
		f.unopened = id
		_ = f.openStream() // Write tries again
	}
	return nil
}

// openDescriptor opens a descriptor that we were started with. A regular file is written to where its other writers
// are. Others are opened anew: only a file description of our own can be made non-blocking.
func (f *File) openDescriptor(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 { // one of ours
		return unix.EBADF
	}
	st, err := statOf(fd)
	if err != nil {
		return err
	}
	switch identityOf(st).kind {
	case unix.S_IFBLK:
		return errBlockDevice
	case unix.S_IFREG:
		fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	default:
		fd, err = openAt(unix.AT_FDCWD, fdPath(fd), streamFlags)
	}
	if err != nil {
		return err
	}
	f.stream = fd
	return nil
}

// fdPath is a path at which a descriptor of ours can be opened anew.
func fdPath(fd int) string { return fdDir + strconv.Itoa(fd) }

const streamFlags = unix.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY

// openStream opens the stream that was found, and nothing that has its name by now.
func (f *File) openStream() error {
	check := func(st unix.Stat_t, err error) error {
		if err == nil && identityOf(st) != f.unopened {
			err = errReplaced
		}
		return err
	}
	if err := check(statAt(f.dir, f.rest)); err != nil {
		return err
	}
	fd, err := openAt(f.dir, f.rest, streamFlags|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	if err := check(statOf(fd)); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	f.stream = fd
	return nil
}

var errReplaced = errors.New("it was replaced while the run went on")
