package report

import (
	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// identity tells a file from all others that exist at the same time.
type identity struct {
	kind     uint32 // S_IFMT bits of its mode
	dev, ino uint64
}

// identityOf is the identity of a file. That of the zero value is zero.
func identityOf(st unix.Stat_t) identity {
	return identity{uint32(st.Mode) & unix.S_IFMT, uint64(st.Dev), uint64(st.Ino)}
}

// readLinkAt returns a link's text. With an empty name dir is the link itself.
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
