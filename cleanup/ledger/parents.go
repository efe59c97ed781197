package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ParentError is a directory, or a symbolic link, on the way to a state directory through which another user can put
// another directory in the state directory's place. Two runs of one name would then live side by side.
type ParentError struct {
	Path  string
	Link  bool   // it is a symbolic link
	Owner uint32 // user ID
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

// Hint is the command, or the two, that make the parent safe.
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

// foreign reports whether the owner is another user than root and us. The owner of a directory can rename all that is
// in it, also where the directory is sticky.
func (e *ParentError) foreign() bool { return e.Owner != 0 && int(e.Owner) != os.Geteuid() }

// writable reports whether the group or others can rename what is in the directory. In a sticky one they can rename
// what they own, and that is looked at by itself. Entries of an access control list show up as the permissions of the
// group (acl(5)).
func (e *ParentError) writable() bool {
	return !e.Link && e.Mode&0o022 != 0 && e.Mode&unix.S_ISVTX == 0
}

// maxLinks is how many symbolic links Linux follows in one path (path_resolution(7)).
const maxLinks = 40

// UnsafeParents lists the directories and symbolic links that another user can use to replace the directory at path.
// It follows the path from the root as the kernel does, through symbolic links, and leaves out the last element, which
// OpenDir looks at. Up to the first unsafe parent nothing can change meanwhile, so that one is never missed. When an
// element does not exist, the error is fs.ErrNotExist, and the list has what was found before it.
func UnsafeParents(path string) (unsafe []*ParentError, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("looking at the parents of the state directory: %w", err)
	}
	seen := map[string]bool{}
	look := func(path string) (st unix.Stat_t, err error) {
		if err = retry(func() error { return unix.Lstat(path, &st) }); err != nil || seen[path] {
			return st, err
		}
		seen[path] = true
		parent := &ParentError{
			Path: path, Link: isLink(st), Owner: st.Uid, Mode: uint32(st.Mode) & 0o7777,
		}
		if parent.foreign() || parent.writable() {
			unsafe = append(unsafe, parent)
		}
		return st, nil
	}
	fail := func(err error) ([]*ParentError, error) {
		return unsafe, fmt.Errorf("looking at the parents of the state directory %s: %w", path, err)
	}
	at, links := "/", 0
	if _, err := look(at); err != nil {
		return fail(err)
	}
	for rest := elements(path); len(rest) > 1; {
		next := filepath.Join(at, rest[0]) // at has no links in it, so that .. is the one above
		rest = rest[1:]
		st, err := look(next)
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

func isLink(st unix.Stat_t) bool { return uint32(st.Mode)&unix.S_IFMT == unix.S_IFLNK }

// elements are the names in a path.
func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
