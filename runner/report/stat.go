package report

import "golang.org/x/sys/unix"

// identity tells a file from all others that exist at the same time.
type identity struct {
	kind     uint32 // S_IFMT bits of its mode
	dev, ino uint64
}

// identityOf is the identity of a file. That of the zero value is zero.
func identityOf(st unix.Stat_t) identity {
	return identity{uint32(st.Mode) & unix.S_IFMT, uint64(st.Dev), uint64(st.Ino)}
}

func openAt(dir int, name string, flags int) (fd int, err error) {
	err = retry(func() (err error) {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, newMode)
		return err
	})
	return fd, err
}

func statOf(fd int) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstat(fd, &st) })
	return st, err
}

// statAt does not follow a link.
func statAt(dir int, name string) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

// retry calls until no signal interrupts the call.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// readLinkAt returns a link's text. With an empty name dir is the link itself.
func readLinkAt(dir int, name string) (string, error) {
	const pathMax = 4096 // PATH_MAX, with the final NUL
	text, n := make([]byte, pathMax), 0
	err := retry(func() (err error) {
		n, err = unix.Readlinkat(dir, name, text)
		return err
	})
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
