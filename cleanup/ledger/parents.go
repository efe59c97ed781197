package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// ParentError is an unsafe directory or symbolic link on the way to a state directory: another user can use it to
// replace the state directory. Two runs of one name could then exist at the same time.
type ParentError struct {
	Path  string
	Link  bool   // it is a symbolic link
	Owner uint32 // user id
	Mode  uint32 // permission bits, with the sticky bit
}

// Error names the path, its owner and its mode.
func (e *ParentError) Error() string {
	switch {
	case e.Link:
		return fmt.Sprintf("user %d owns the symbolic link %s", e.Owner, e.Path)
	case e.foreign():
		return fmt.Sprintf("user %d owns %s, its mode is %04o", e.Owner, e.Path, e.Mode)
	}
	return fmt.Sprintf("group or others may write to %s, its owner is user %d, its mode is %04o", e.Path, e.Owner, e.Mode)
}

// Hint returns the commands that make the parent safe, separated by commas.
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

// foreign reports whether the owner is another user than root and graceful's. The owner of a directory can rename
// everything in it, even if it is sticky.
func (e *ParentError) foreign() bool { return e.Owner != 0 && int(e.Owner) != os.Geteuid() }

// writable reports whether the group or others can rename what is in the directory. In a sticky directory they can
// rename only what they own, and UnsafeParents checks that itself. The permissions of the group include the entries of
// an access control list (acl(5)).
func (e *ParentError) writable() bool {
	return !e.Link && e.Mode&0o022 != 0 && e.Mode&unix.S_ISVTX == 0
}

// maxLinks is how many symbolic links Linux follows in one path (path_resolution(7)).
const maxLinks = 40

// UnsafeParents returns the directories and symbolic links that another user can use to replace the directory at path.
// It follows path from the root through symbolic links, as the kernel does. It omits the last element, which OpenDir
// checks.
//
// No other user can change the path before its first unsafe parent, so UnsafeParents never misses that one. If an
// element does not exist, the error is fs.ErrNotExist, and the list has the unsafe parents before it.
func UnsafeParents(path string) (unsafe []*ParentError, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("looking at the parents of the state directory: %w", err)
	}
	fail := func(err error) ([]*ParentError, error) {
		return unsafe, fmt.Errorf("looking at the parents of the state directory %s: %w", path, err)
	}
	checked := map[string]bool{}
	check := func(path string) (st unix.Stat_t, err error) {
		if st, err = eintr.Lstatat(unix.AT_FDCWD, path); err != nil || checked[path] {
			return st, err
		}
		checked[path] = true
		parent := &ParentError{
			Path: path, Link: isLink(st), Owner: st.Uid, Mode: uint32(st.Mode) & 0o7777,
		}
		if parent.foreign() || parent.writable() {
			unsafe = append(unsafe, parent)
		}
		return st, nil
	}
	at, links := "/", 0
	if _, err := check(at); err != nil {
		return fail(err)
	}
	for rest := elements(path); len(rest) > 1; {
		next := filepath.Join(at, rest[0]) // at contains no links, so ".." is the directory above
		rest = rest[1:]
		st, err := check(next)
		if err != nil {
			return fail(err)
		}
		if !isLink(st) {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err == nil && links > maxLinks {
			err = unix.ELOOP
		}
		if err != nil {
			return fail(err)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(elements(target), rest...)
	}
	return unsafe, nil
}

// isLink reports whether a file is a symbolic link.
func isLink(st unix.Stat_t) bool { return uint32(st.Mode)&unix.S_IFMT == unix.S_IFLNK }

// elements returns the names in a path.
func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
