package ledger

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// ext ends the names of ledgers, and maxName bounds them: behind it there must be room for being set aside.
const (
	ext     = ".ledger"
	maxName = 200
)

// Dir is an open directory of ledgers, one that nobody else may write to. What is done in it is done in the directory
// that was looked at, whatever its path names later.
type Dir struct {
	fd   int
	path string
}

// OpenDir opens a directory of ledgers that exists.
func OpenDir(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening the state directory: %w", err)
	}
	fd, err := openAt(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, unix.S_IFDIR)
	if err != nil {
		return nil, fmt.Errorf("opening the state directory %s: %w", path, err)
	}
	return &Dir{fd: fd, path: path}, nil
}

// MakeDir is OpenDir for a directory that may be missing, with its parents.
func MakeDir(path string) (*Dir, error) {
	d, err := OpenDir(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	return OpenDir(path)
}

// Names lists the ledgers.
func (d *Dir) Names() ([]string, error) {
	return d.list(func(name string) bool { return strings.HasSuffix(name, ext) })
}

// NamesSetAside lists those that were set aside as Interrupted.
func (d *Dir) NamesSetAside() ([]string, error) {
	return d.list(func(name string) bool { return nameBefore(name) != name })
}

// nameBefore is the name that a ledger had before it was set aside, and that it has where it was not.
func nameBefore(name string) string {
	i := strings.LastIndex(name, ext+Interrupted)
	if i < 0 {
		return name
	}
	number, numbered := strings.CutPrefix(name[i+len(ext+Interrupted):], ".")
	if _, err := strconv.ParseUint(number, 10, 64); numbered && err == nil || !numbered && number == "" {
		return name[:i+len(ext)]
	}
	return name
}

func (d *Dir) list(want func(string) bool) ([]string, error) {
	// Opened anew, since reading a directory moves the position in it.
	fd, err := openAt(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, unix.S_IFDIR)
	if err != nil {
		return nil, fmt.Errorf("listing the state directory %s: %w", d.path, err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("listing the state directory: %w", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !want(name) })
	slices.Sort(names)
	return names, nil
}

// Open opens a ledger that exists and takes its lock.
func (d *Dir) Open(file string) (*Ledger, error) { return d.open(file, 0) }

// Take opens a ledger, or makes it, and takes its lock.
func (d *Dir) Take(file string) (*Ledger, error) {
	l, err := d.open(file, unix.O_CREAT)
	if err != nil {
		return nil, err
	}
	// Also when it was there: who made it may not have come to this.
	if err := d.sync(); err != nil {
		l.Close()
		return nil, fmt.Errorf("making %s: %w", l, err)
	}
	return l, nil
}

func (d *Dir) open(file string, flags int) (*Ledger, error) {
	path := filepath.Join(d.path, file)
	fail := func(err error) (*Ledger, error) { return nil, fmt.Errorf("opening ledger %s: %w", path, err) }
	if file == "" || file == "." || file == ".." || strings.Contains(file, "/") {
		return nil, fmt.Errorf("opening ledger %q: that is no file name", file)
	}
	for {
		fd, err := openAt(d.fd, file, unix.O_RDWR|flags, unix.S_IFREG)
		if err != nil {
			return fail(err)
		}
		locked := eintr.Retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		ours, err := d.names(file, fd)
		switch {
		case locked == unix.ENOLCK || errors.Is(locked, errors.ErrUnsupported):
			err = fmt.Errorf("the file system has no locks: %w", locked)
		case locked != nil && locked != unix.EWOULDBLOCK:
			err = fmt.Errorf("locking it: %w", locked)
		case err != nil:
		case !ours: // removed or set aside while we came: what has the name now counts, whoever locked this
			unix.Close(fd)
			continue
		case locked != nil:
			err = ErrAlive
		default:
			return newLedger(fd, path), nil
		}
		unix.Close(fd)
		return fail(err)
	}
}

// names tells whether a name in the directory is that of an open file.
func (d *Dir) names(file string, fd int) (bool, error) {
	open, err := eintr.Fstat(fd)
	if err != nil {
		return false, err
	}
	there, err := eintr.Lstatat(d.fd, file)
	if err == unix.ENOENT {
		return false, nil
	}
	return err == nil && open.Dev == there.Dev && open.Ino == there.Ino, err
}

// Close closes the directory. Its ledgers stay open.
func (d *Dir) Close() error { return unix.Close(d.fd) }

func (d *Dir) sync() error { return syncDir(d.fd) }

// syncDir makes the names in a directory last. Some file systems have no way to do that, and no need.
func syncDir(fd int) error {
	err := eintr.Retry(func() error { return unix.Fsync(fd) })
	if err == unix.EINVAL || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// openAt opens without following a link and without waiting for anybody, and refuses what is not of that kind or not
// ours alone.
func openAt(dir int, name string, flags int, kind uint32) (fd int, err error) {
	fd, err = eintr.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		// What is there says more than the error, of which there are many for a link or a socket.
		if st, gone := eintr.Lstatat(dir, name); gone == nil {
			err = cmp.Or(refuse(&st, kind), err)
		}
		return -1, err
	}
	st, err := eintr.Fstat(fd)
	if err = cmp.Or(err, refuse(&st, kind)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// refuse says what is wrong with a file or a directory that somebody else may have put there, or may write to.
func refuse(st *unix.Stat_t, kind uint32) error {
	is, uid := uint32(st.Mode)&unix.S_IFMT, os.Geteuid()
	switch {
	case is != kind:
		return fmt.Errorf("it is %s, not %s", cmp.Or(kinds[is], "a device"), kinds[kind])
	case int(st.Uid) != uid:
		return fmt.Errorf("it belongs to user %d, and we are user %d", st.Uid, uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("group or others may write to it, its mode is %04o (chmod go-w)", st.Mode&0o7777)
	case kind == unix.S_IFREG && st.Nlink > 1:
		return fmt.Errorf("it has %d names, and may be reached by another (only one hard link is allowed)", st.Nlink)
	}
	return refuseSize(st.Size)
}

func refuseSize(size int64) error {
	if size > MaxSize {
		return fmt.Errorf("%d bytes are more than a ledger may have (%d)", size, MaxSize)
	}
	return nil
}

var kinds = map[uint32]string{
	unix.S_IFREG:  "a regular file",
	unix.S_IFDIR:  "a directory",
	unix.S_IFLNK:  "a symbolic link",
	unix.S_IFIFO:  "a FIFO",
	unix.S_IFSOCK: "a socket",
}

// FileName makes the name of a run, which may be any bytes, the name of its file: another one for every run. On a
// file system that does not tell upper from lower case, names that differ in nothing else share a file.
func FileName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	stem := cmp.Or(b.String(), "%") // which no other name becomes
	if len(stem+ext) > maxName {
		hash := fmt.Sprintf("~%x", sha256.Sum256([]byte(name))) // and none has a tilde
		stem = stem[:maxName-len(hash+ext)] + hash
	}
	return stem + ext
}
