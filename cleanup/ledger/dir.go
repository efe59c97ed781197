package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// Dir is an open directory of ledgers. No other user may write to that directory. The methods of Dir use the directory
// that was checked, even if the path leads to another one later.
type Dir struct {
	fd   int
	path string
}

// OpenDir opens an existing directory of ledgers. It fails if another user owns the directory, may write to it, or can
// replace a symbolic link to it.
func OpenDir(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening the state directory: %w", err)
	}
	fd, err := openTrustedDir(path)
	if err != nil {
		return nil, fmt.Errorf("opening the state directory %s: %w", path, err)
	}
	return &Dir{fd: fd, path: path}, nil
}

// MakeDir opens a directory as OpenDir does. If the directory does not exist, MakeDir creates it and its missing
// parents.
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

// Names returns the sorted file names of the ledgers that are not set aside.
func (d *Dir) Names() ([]string, error) {
	return d.list(func(name string) bool { return strings.HasSuffix(name, ext) })
}

// NamesSetAside returns the sorted file names of the ledgers that are set aside with the suffix Interrupted.
func (d *Dir) NamesSetAside() ([]string, error) {
	return d.list(func(name string) bool { return originalName(name) != name })
}

// list returns the sorted names in the directory for which want is true.
func (d *Dir) list(want func(string) bool) ([]string, error) {
	// Reading a directory moves the offset of its open file. So list opens the directory anew.
	fd, err := openTrusted(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, unix.S_IFDIR)
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

// Open opens an existing ledger and takes its lock. It fails with ErrAlive if the lock is taken.
func (d *Dir) Open(file string) (*Ledger, error) { return d.open(file, 0) }

// Take opens a ledger, creates it if it does not exist, and takes its lock. It fails with ErrAlive if the lock is
// taken.
func (d *Dir) Take(file string) (*Ledger, error) {
	l, err := d.open(file, unix.O_CREAT)
	if err != nil {
		return nil, err
	}
	// Sync the directory even if the file existed. The process that created the file may have been killed before its
	// own sync.
	if err := d.sync(); err != nil {
		return nil, l.failed("making", errors.Join(err, l.Close()))
	}
	return l, nil
}

// open opens a ledger and takes its lock. flags is 0 or O_CREAT.
func (d *Dir) open(file string, flags int) (*Ledger, error) {
	path := filepath.Join(d.path, file)
	fail := func(err error) (*Ledger, error) { return nil, fmt.Errorf("opening ledger %s: %w", path, err) }
	if file == "" || file == "." || file == ".." || strings.Contains(file, "/") {
		return nil, fmt.Errorf("opening ledger %q: it is not a file name", file)
	}
	for {
		fd, err := openTrusted(d.fd, file, unix.O_RDWR|flags, unix.S_IFREG)
		if err != nil {
			return fail(err)
		}
		locked := eintr.Retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		current, err := d.isNameOf(file, fd)
		switch {
		case locked == unix.ENOLCK || errors.Is(locked, errors.ErrUnsupported):
			err = fmt.Errorf("the file system has no locks: %w", locked)
		case locked != nil && locked != unix.EWOULDBLOCK:
			err = fmt.Errorf("locking it: %w", locked)
		case err != nil:
		case !current: // the file was removed or set aside meanwhile: try the file that has the name now
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

// Peek opens an existing ledger for reading, without its lock. Another process may be appending to it.
func (d *Dir) Peek(file string) (*Ledger, error) {
	path := filepath.Join(d.path, file)
	fd, err := openTrusted(d.fd, file, unix.O_RDONLY, unix.S_IFREG)
	if err != nil {
		return nil, fmt.Errorf("opening ledger %s: %w", path, err)
	}
	return newLedger(fd, path), nil
}

// isNameOf reports whether the name file in the directory refers to the open file fd.
func (d *Dir) isNameOf(file string, fd int) (bool, error) {
	open, openErr := eintr.Fstat(fd)
	named, err := eintr.Lstatat(d.fd, file)
	if err == unix.ENOENT { // named stays zero, which matches no file
		err = nil
	}
	return open.Dev == named.Dev && open.Ino == named.Ino, cmp.Or(openErr, err)
}

// Close closes the directory. Its ledgers stay open.
func (d *Dir) Close() error { return unix.Close(d.fd) }

// sync waits until the names in the directory are on the disk. A file system that cannot sync a directory is no error.
func (d *Dir) sync() error {
	err := eintr.Retry(func() error { return unix.Fsync(d.fd) })
	if err == unix.EINVAL || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

const (
	// ext is the suffix of ledgers.
	ext = ".ledger"
	// maxName bounds the file name of a ledger, in bytes. It leaves room for the suffix of SetAside.
	maxName = 200
)

// FileName returns the file name for the name of a run. The name may contain any bytes. Different names have different
// file names, except long names whose hashes are equal. But on a file system that ignores case, names that differ only
// in case share one file.
func FileName(name string) string {
	stem := escaped(name)
	if len(stem+ext) > maxName {
		sum := fnv.New128a()
		sum.Write([]byte(name))
		hash := fmt.Sprintf("%s%x", hashMark, sum.Sum(nil))
		stem = stem[:maxStart] + hash
	}
	return stem + ext
}

// hashMark precedes the hash in a long file name. No short file name contains it.
const hashMark = "~"

// maxStart is the maximum number of bytes of a long name that its file name contains. They come from the beginning of
// the name.
const maxStart = maxName - len(hashMark) - 2*128/8 - len(ext)

// IsNameOf reports whether file may be the ledger of a run called name, or of a run called name with a suffix of n
// bytes that needs no escape. Only the records in the ledger show which run it belongs to.
func IsNameOf(file, name string, n int) bool {
	stem := escaped(name)
	if strings.Contains(file, hashMark) {
		return len(stem)+n+len(ext) > maxName && strings.HasPrefix(file, stem[:min(len(stem), maxStart)])
	}
	rest, ok := strings.CutPrefix(file, stem)
	return ok && (rest == ext || len(rest) == n+len(ext))
}

// escaped returns the file name for the name of a run, without ext and without a limit of length. The name may contain
// any bytes.
func escaped(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return cmp.Or(b.String(), "%") // no other name becomes "%"
}

// originalName returns the name that a ledger had before SetAside. It returns other names unchanged.
func originalName(name string) string {
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
