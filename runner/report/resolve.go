package report

import (
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many links are followed in a path, as many as by the kernel (path_resolution(7)).
const maxLinks = 40

// resolver walks along a path, one name at a time, and examines each link. The kernel would follow those of other users
// too, unless protected_symlinks is set (proc_sys_fs(5)).
type resolver struct {
	dir   int         // directory that has been reached; -1: none
	at    string      // its path, without links
	rest  []string    // names that are left; the last one is the file's
	last  unix.Stat_t // of the file; zero: there is none
	links int         // number of links that may still be followed
}

// resolve walks until the path names a descriptor of ours, the file alone is left, or a directory does not exist.
func (r *resolver) resolve(path string) error {
	r.rest = names(path)
	if err := r.enterRoot(); err != nil {
		return err
	}
	for {
		if _, ok := descriptorOf(r.path()); ok {
			return nil
		}
		if len(r.rest) == 0 || r.rest[len(r.rest)-1] == ".." {
			return unix.EISDIR
		}
		name, isLast := r.rest[0], len(r.rest) == 1
		entered := error(unix.ENOTDIR)
		if !isLast {
			if entered = r.enter(name, unix.O_NOFOLLOW); entered == nil {
				r.rest = r.rest[1:]
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
			r.last = st
			return nil
		default:
			return entered
		}
	}
}

// follow puts what a link says in the place of its name.
func (r *resolver) follow(name, to string, link unix.Stat_t) error {
	if r.links == 0 {
		return unix.ELOOP
	}
	r.links--
	dir, err := statOf(r.dir)
	if err != nil {
		return err
	}
	if !isTrusted(link, dir) {
		return &linkError{join(r.at, name), link.Uid}
	}
	r.rest = r.rest[1:]
	if len(r.rest) > 0 && isMagic(r.dir, dir) {
		return r.enter(name, 0)
	}
	if path.IsAbs(to) {
		if err := r.enterRoot(); err != nil {
			return err
		}
	}
	r.rest = append(names(to), r.rest...)
	return nil
}

// isTrusted reports whether a link may be followed: it belongs to us or to the owner of its directory. In Linux
// may_follow_link (fs/namei.c) has the same rule, for sticky directories only. A user namespace shows all users that it
// does not map under one id (user_namespaces(7)): a link and a directory with that id may have different owners, unless
// only the owner may write to the directory.
func isTrusted(link, dir unix.Stat_t) bool {
	const overflowUID = 65534
	switch link.Uid {
	case uint32(os.Geteuid()):
		return true
	case dir.Uid:
		return link.Uid != overflowUID || dir.Mode&0o022 == 0
	}
	return false
}

func (r *resolver) enterRoot() error {
	fd, err := openAt(unix.AT_FDCWD, "/", searchFlags)
	if err == nil {
		r.moveTo(fd, "/")
	}
	return err
}

// enter enters a directory. follow is O_NOFOLLOW, or 0 for a link of the kernel's own.
func (r *resolver) enter(name string, follow int) error {
	fd, err := openAt(r.dir, name, searchFlags|follow)
	if err == nil {
		r.moveTo(fd, path.Join(r.at, name))
	}
	return err
}

func (r *resolver) moveTo(dir int, at string) {
	if r.dir >= 0 {
		unix.Close(r.dir)
	}
	r.dir, r.at = dir, at
}

// path is the whole path, as far as it is known.
func (r *resolver) path() string { return join(r.at, strings.Join(r.rest, "/")) }

func join(dir, rest string) string { return strings.TrimSuffix(dir, "/") + "/" + rest }

// names splits a path. An empty name and "." stay in the same directory.
func names(path string) (names []string) {
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return names
}

// standard are names of descriptors that are links on every system.
var standard = map[string]int{"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}

// descriptorOf returns the descriptor of ours that a path names. The kernel shows them as links whose text is not where
// they lead.
func descriptorOf(path string) (fd int, ok bool) {
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/", "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/"} {
		if name, found := strings.CutPrefix(path, dir); found {
			fd, err := strconv.Atoi(name)
			return fd, err == nil && fd >= 0
		}
	}
	return 0, false
}
