package ledger

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// openTrusted opens a file or directory of the given kind (S_IFREG, S_IFDIR). It fails as checkTrust does. It does not
// follow a symbolic link and does not block. With O_CREAT it creates a missing file with mode 0600, whatever the umask
// is.
func openTrusted(dir int, name string, flags int, kind uint32) (fd int, err error) {
	fd, err = eintr.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		// Prefer the error of checkTrust. That of open(2) for a link or a socket depends on the system, and is less clear.
		if st, statErr := eintr.Lstatat(dir, name); statErr == nil {
			err = cmp.Or(checkTrust(&st, kind), err)
		}
		return -1, err
	}
	st, err := eintr.Fstat(fd)
	if err = cmp.Or(err, checkTrust(&st, kind)); err == nil && flags&unix.O_CREAT != 0 && st.Mode&0o600 != 0o600 {
		err = eintr.Retry(func() error { return unix.Fchmod(fd, 0o600) }) // the umask has cleared bits of the owner
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// checkTrust returns an error if a file or directory is not of the given kind, belongs to another user, may be written
// by the group or others, or is larger than MaxSize. It also refuses a regular file with more than one name.
func checkTrust(st *unix.Stat_t, kind uint32) error {
	is, uid := uint32(st.Mode)&unix.S_IFMT, os.Geteuid()
	switch {
	case is != kind:
		return fmt.Errorf("it is %s, not %s", cmp.Or(kindNames[is], "a device"), kindNames[kind])
	case int(st.Uid) != uid:
		return fmt.Errorf("it belongs to user %d, and graceful runs as user %d", st.Uid, uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("group or others may write to it, its mode is %04o (chmod go-w)", st.Mode&0o7777)
	case kind == unix.S_IFREG && st.Nlink > 1:
		return fmt.Errorf("it has %d names, and may be reached by another (only one hard link is allowed)", st.Nlink)
	}
	return checkSize(st.Size)
}

// kindNames maps kinds of files to their names in messages. A kind without a name is a device.
var kindNames = map[uint32]string{
	unix.S_IFREG:  "a regular file",
	unix.S_IFDIR:  "a directory",
	unix.S_IFLNK:  "a symbolic link",
	unix.S_IFIFO:  "a FIFO",
	unix.S_IFSOCK: "a socket",
}

// ParentError is the error about an unsafe directory or symbolic link in the path of a state directory. Another user
// can use that directory or link to replace the state directory. Two runs of one name could then exist at the same
// time.
type ParentError struct {
	Path  string
	Link  bool   // it is a symbolic link
	Owner uint32 // user id
	Mode  uint32 // permission bits, with the sticky bit
}

// Error names the path, its owner and, for a directory, its mode.
func (e *ParentError) Error() string {
	switch {
	case e.Link:
		return fmt.Sprintf("user %d owns the symbolic link %s", e.Owner, e.Path)
	case e.foreign():
		return fmt.Sprintf("user %d owns %s, its mode is %04o", e.Owner, e.Path, e.Mode)
	}
	return fmt.Sprintf("group or others may write to %s, its owner is user %d, its mode is %04o", e.Path, e.Owner, e.Mode)
}

// Hint returns the commands that make the directory or link safe, separated by commas.
func (e *ParentError) Hint() string {
	var commands []string
	if e.Link {
		return "chown -h root " + e.Path
	}
	if e.foreign() {
		commands = append(commands, "chown root "+e.Path)
	}
	if e.writable() {
		commands = append(commands, "chmod go-w "+e.Path)
	}
	return strings.Join(commands, ", ")
}

// foreign reports whether the owner is neither root nor graceful's user. The owner of a directory can rename everything
// in that directory, even if it is sticky.
func (e *ParentError) foreign() bool { return e.Owner != 0 && int(e.Owner) != os.Geteuid() }

// writable reports whether the group or others can rename the files in the directory; for a link it returns false. In a
// sticky directory they can rename only files that they own, and UnsafeParents checks the owner of each element. The
// permissions of the group include the entries of an access control list (acl(5)).
func (e *ParentError) writable() bool {
	return !e.Link && e.Mode&0o022 != 0 && e.Mode&unix.S_ISVTX == 0
}

// UnsafeParents returns the directories and symbolic links that another user can use to replace the directory at path.
// It follows path from the root through symbolic links, as the kernel does. The result does not contain the directory
// itself, which OpenDir checks.
//
// No other user can change the path before its first unsafe parent, so UnsafeParents never misses that one. If a parent
// does not exist, the error wraps fs.ErrNotExist, and the list contains the unsafe parents before the missing one.
func UnsafeParents(path string) (unsafe []*ParentError, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("looking at the parents of the state directory: %w", err)
	}
	checked, links := map[string]bool{}, 0
	at := "/" // the path so far; it contains no links, so ".." is the directory above
	for next, rest := at, elements(path); ; next, rest = filepath.Join(at, rest[0]), rest[1:] {
		st, err := eintr.Lstatat(unix.AT_FDCWD, next)
		linked := uint32(st.Mode)&unix.S_IFMT == unix.S_IFLNK
		parent := &ParentError{Path: next, Link: linked, Owner: st.Uid, Mode: uint32(st.Mode) & 0o7777}
		if err == nil && !checked[next] && (parent.foreign() || parent.writable()) {
			unsafe = append(unsafe, parent)
		}
		checked[next] = true
		var target string
		if linked {
			links++
			if target, err = os.Readlink(next); err == nil && links > maxLinks {
				err = unix.ELOOP
			}
		}
		if err != nil {
			return unsafe, fmt.Errorf("looking at the parents of the state directory %s: %w", path, err)
		}
		if !linked {
			at = next
		} else if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(elements(target), rest...)
		if len(rest) == 0 || len(rest) == 1 && !isLink(filepath.Join(at, rest[0])) {
			return unsafe, nil
		}
	}
}

// elements returns the names in a path.
func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
