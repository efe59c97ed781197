package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxPath bounds the path of a socket, in bytes. Linux allows 4 more than macOS and FreeBSD.
	maxPath = 103
	// backlog is the number of connections that wait for accept(2). The system may allow fewer.
	backlog = 4096
	// dirPrefix begins the names of the sockets' directories.
	dirPrefix = "graceful-"
)

// Listen creates the socket of a run and returns its address. The socket is in a directory of its own, which only
// graceful's user and root may enter.
//
// The directory is in the first place that is writable and that other users cannot tamper with. Places in memory come
// first: nothing there outlives the machine, and a container with a read-only root file system has /dev/shm. If there
// is no such place, Listen on Linux uses an address without a file (unix(7), abstract). Every user can connect to that;
// Serve refuses other users.
func Listen(id string) (fd int, address string, err error) {
	for _, place := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/run", "/dev/shm", os.Getenv("TMPDIR"), "/tmp"} {
		if !filepath.IsAbs(place) || !isTrusted(place) {
			continue
		}
		fd, address, belowErr := listenBelow(place, id)
		if belowErr == nil {
			return fd, address, nil
		}
		err = errors.Join(err, belowErr)
	}
	if runtime.GOOS == "linux" {
		address := "@graceful-" + id
		fd, abstractErr := listenAt(address)
		if abstractErr == nil {
			return fd, address, nil
		}
		err = errors.Join(err, abstractErr)
	}
	return -1, "", fmt.Errorf("no place for the socket: %w", err)
}

// isTrusted reports whether only graceful's user and root can rename or replace what graceful creates in a directory.
func isTrusted(dir string) bool {
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	owned := st.Uid == 0 || int(st.Uid) == os.Geteuid()
	return err == nil && owned && (uint32(st.Mode)&0o022 == 0 || uint32(st.Mode)&unix.S_ISVTX != 0)
}

// listenBelow creates the socket in a new directory below place.
func listenBelow(place, id string) (fd int, address string, err error) {
	const idLength = 16 // of id, in the name of the directory
	dir := filepath.Join(place, dirPrefix+id[:min(len(id), idLength)])
	address = filepath.Join(dir, "socket")
	if len(address) > maxPath {
		return -1, "", fmt.Errorf("%s is too long", address)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return -1, "", err
	}
	fd = -1
	if err = os.Chmod(dir, 0o700); err == nil { // the umask may have removed bits
		fd, err = listenAt(address)
	}
	if err == nil {
		err = os.Chmod(address, 0o600)
	}
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		Remove(address)
		return -1, "", err
	}
	return fd, address, nil
}

// listenAt creates a non-blocking socket that listens at an address.
func listenAt(address string) (fd int, err error) {
	if fd, err = newSocket(); err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: address}); err == nil {
		if err = unix.Listen(fd, backlog); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("%s: %w", address, err)
	}
	return fd, nil
}

// newSocket creates a socket that is closed on exec.
func newSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}

// Remove removes the socket and the directory that Listen created. It ignores other addresses.
func Remove(address string) {
	dir := filepath.Dir(address)
	if filepath.IsAbs(address) && strings.HasPrefix(filepath.Base(dir), dirPrefix) {
		_ = os.Remove(address)
		_ = os.Remove(dir)
	}
}
