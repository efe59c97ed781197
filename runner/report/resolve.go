package report

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// maxLinks is the maximum number of links that Open follows in a path. The kernel has the same limit
// (path_resolution(7)).
const maxLinks = 40

// resolver follows a path one name at a time, and checks each link. open(2) alone would follow the links of other
// users, unless protected_symlinks is set (proc_sys_fs(5)).
type resolver struct {
	dir        int         // descriptor of the current directory; negative: none
	dirPath    string      // path of dir, with all links resolved
	restNames  []string    // remaining names; the last one is the file's
	fileStatus unix.Stat_t // status of the file; zero: it does not exist, or was not looked up
	linksLeft  int         // number of links that the resolver may still follow
}

// resolve follows the path. It stops when the path names a descriptor of this process, when only the file's name
// remains, or when a directory does not exist.
func (r *resolver) resolve() error {
	if err := r.enter("/", "/", 0); err != nil {
		return err
	}
	for {
		if _, ok := descriptorOf(r.path()); ok {
			return nil
		}
		if len(r.restNames) == 0 || r.restNames[len(r.restNames)-1] == ".." {
			return unix.EISDIR
		}
		name, isLast := r.restNames[0], len(r.restNames) == 1
		var entered error
		if !isLast {
			if entered = r.enter(name, path.Join(r.dirPath, name), unix.O_NOFOLLOW); entered == nil {
				r.restNames = r.restNames[1:]
				continue
			}
		}
		st, to, err := readLink(r.dir, name)
		switch {
		case err == unix.ENOENT:
			return nil
		case err != nil:
			return err
		case to != "":
			if err := r.follow(name, to, st); err != nil {
				return err
			}
		case isLast:
			r.fileStatus = st
			return nil
		default:
			return entered
		}
	}
}

// follow replaces the name of a link, the next of the remaining names, by to, the link's text. If the link is magic and
// names follow it, follow enters the directory to which the link leads. The error wraps errForeignLink if graceful may
// not follow the link.
func (r *resolver) follow(name, to string, link unix.Stat_t) error {
	if r.linksLeft == 0 {
		return unix.ELOOP
	}
	r.linksLeft--
	dir, err := eintr.Fstat(r.dir)
	if err != nil {
		return err
	}
	if !isTrusted(link, dir) {
		return fmt.Errorf("the link %s belongs to user %d (%w)", path.Join(r.dirPath, name), link.Uid, errForeignLink)
	}
	r.restNames = r.restNames[1:]
	if len(r.restNames) > 0 && isMagic(r.dir, dir) {
		return r.enter(name, path.Join(r.dirPath, name), 0)
	}
	r.restNames = append(names(to), r.restNames...)
	if path.IsAbs(to) {
		return r.enter("/", "/", 0)
	}
	return nil
}

// isTrusted reports whether graceful may follow a link, or write to a FIFO. It may if the file belongs to graceful's
// user or to the owner of the directory. The kernel has the same rule for sticky directories (may_follow_link and
// may_create_in_sticky in fs/namei.c).
//
// In a user namespace, all users that the namespace does not map have the same id (user_namespaces(7)). isTrusted
// accepts a file with that id only in a directory to which no other user may write.
func isTrusted(file, dir unix.Stat_t) bool {
	const overflowUID = 65534
	isOurs, isOwners := file.Uid == uint32(os.Geteuid()), file.Uid == dir.Uid
	return isOurs || isOwners && (file.Uid != overflowUID || dir.Mode&0o022 == 0)
}

// enter opens a directory by its name in the current directory, and makes it the current directory. at is the path of
// the directory. flag is O_NOFOLLOW or 0.
func (r *resolver) enter(name, at string, flag int) error {
	fd, err := eintr.Openat(r.dir, name, searchFlags|flag, 0)
	if err != nil {
		return err
	}
	if r.dir >= 0 {
		unix.Close(r.dir)
	}
	r.dir, r.dirPath = fd, at
	return nil
}

// path returns the whole path. Its part up to the current directory contains no links. Unlike path.Join, path keeps
// "..".
func (r *resolver) path() string {
	return strings.TrimSuffix(r.dirPath, "/") + "/" + strings.Join(r.restNames, "/")
}

// names splits a path into names. It omits empty names and ".".
func names(path string) []string {
	isOmitted := func(name string) bool { return name == "" || name == "." }
	return slices.DeleteFunc(strings.Split(path, "/"), isOmitted)
}

// standard contains the paths that are links to descriptors on every system, with their descriptors.
var standard = map[string]int{"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}

// descriptorOf returns the descriptor of this process that a path names. The kernel shows a descriptor as a link, but
// opening the text of that link may open a different file.
func descriptorOf(path string) (fd int, ok bool) {
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/", "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/"} {
		if name, found := strings.CutPrefix(path, dir); found {
			fd, err := strconv.Atoi(name)
			return fd, err == nil && fd >= 0
		}
	}
	return 0, false
}

// readLinkAt returns the text of a link. If name is empty, dir is the descriptor of the link itself.
func readLinkAt(dir int, name string) (string, error) {
	const pathMax = 4096 // PATH_MAX, with the final NUL
	text := make([]byte, pathMax)
	n, err := eintr.RetryValue(func() (int, error) { return unix.Readlinkat(dir, name, text) })
	switch {
	case err != nil:
		return "", err
	case n == 0:
		return "", unix.ENOENT
	case n == pathMax:
		return "", unix.ENAMETOOLONG
	}
	return string(text[:n]), nil
}
