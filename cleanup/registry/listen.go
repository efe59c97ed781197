package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
	"graceful/cleanup/tempdir"
)

const (
	// maxPath is the maximum length of the path of a socket, in bytes. Linux would allow 4 more bytes than macOS and
	// FreeBSD.
	maxPath = 103
	// backlog is the maximum number of connections that may wait for accept(2). The system may have a lower limit.
	backlog = 4096
	// dirPrefix begins the names of the sockets' directories.
	dirPrefix = "graceful-"
	// lockName is the name of the lock file in the directory of a socket. Its lock is held while the run is alive.
	lockName = "lock"
)

// Socket is the socket of a run.
type Socket struct {
	FD      int
	Address string
	Lock    int // descriptor of the lock file; while a process has it open, RemoveDead keeps the socket; negative: none
}

// Listen creates the socket of the run with an id. It makes a directory for the socket, which only graceful's user and
// root may enter, in the first place that is writable and that other users cannot tamper with.
//
// If there is no such place, Listen on Linux uses an address without a file (unix(7), abstract). Every user can connect
// to such an address, so Serve refuses other users.
func Listen(id string) (_ Socket, err error) {
	for dir := range tempdir.Trusted() {
		s, belowErr := listenBelow(dir, id)
		if belowErr == nil {
			return s, nil
		}
		if errors.Is(belowErr, unix.EMFILE) || errors.Is(belowErr, unix.ENFILE) { // every other place would fail, too
			return noSocket, belowErr
		}
		err = errors.Join(err, belowErr)
	}
	if runtime.GOOS == "linux" {
		address := "@graceful-" + id
		fd, abstractErr := listenAt(address)
		if abstractErr == nil {
			return Socket{fd, address, -1}, nil
		}
		err = errors.Join(err, abstractErr)
	}
	return noSocket, fmt.Errorf("no place for the socket: %w", err)
}

// noSocket is the Socket that functions return together with an error.
var noSocket = Socket{FD: -1, Lock: -1}

// listenBelow creates the socket of the run with an id, in a new directory below parent.
func listenBelow(parent, id string) (Socket, error) {
	const idLength = 16 // number of bytes of id in the name of the directory
	dir := filepath.Join(parent, dirPrefix+id[:min(len(id), idLength)])
	s := Socket{-1, filepath.Join(dir, "socket"), -1}
	if len(s.Address) > maxPath {
		return noSocket, fmt.Errorf("%s is too long", s.Address)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return noSocket, err
	}
	err := os.Chmod(dir, 0o700) // the umask may have removed bits
	if err == nil {
		s.Lock, err = lockIn(dir)
	}
	if err == nil {
		s.FD, err = listenAt(s.Address)
	}
	if err == nil {
		err = os.Chmod(s.Address, 0o600)
	}
	if err != nil {
		for _, fd := range []int{s.FD, s.Lock} {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
		Remove(s.Address)
		return noSocket, err
	}
	return s, nil
}

// lockIn creates the file lockName in a directory and returns its descriptor. It locks the file before the file gets
// that name, so that RemoveDead never finds a free lock of a live run.
func lockIn(dir string) (fd int, err error) {
	unlocked := filepath.Join(dir, "new")
	if fd, err = eintr.Openat(unix.AT_FDCWD, unlocked, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600); err != nil {
		return -1, fmt.Errorf("%s: %w", unlocked, err)
	}
	err = eintr.Retry(func() error { return unix.Flock(fd, unix.LOCK_SH) })
	if err == nil {
		err = unix.Fchmod(fd, 0o600) // the umask may have removed bits
	}
	if err == nil {
		err = os.Rename(unlocked, filepath.Join(dir, lockName))
	}
	if err != nil {
		unix.Close(fd)
		os.Remove(unlocked)
		return -1, err
	}
	return fd, nil
}

// Hold takes a second, shared lock on the lock file of the socket. A process that has inherited the socket needs its
// own lock, because the process that created the socket may end first. Hold returns the descriptor of the lock. It
// returns -1 if there is no lock file, or if the lock cannot be taken.
func Hold(address string) int {
	dir := dirOf(address)
	if dir == "" {
		return -1
	}
	fd, err := eintr.Openat(unix.AT_FDCWD, filepath.Join(dir, lockName), unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err == nil && unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) != nil {
		unix.Close(fd)
		fd = -1
	}
	return fd
}

// listenAt creates a non-blocking socket that listens at an address.
func listenAt(address string) (fd int, err error) {
	if fd, err = newSocket(); err != nil {
		return -1, fmt.Errorf("a socket: %w", err)
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

// Remove removes the socket at an address and the directory that Listen created for it. It ignores an address for which
// Listen created no directory.
func Remove(address string) {
	if dir := dirOf(address); dir != "" {
		_ = eintr.Retry(func() error { return unix.Unlink(address) })
		_ = eintr.Retry(func() error { return unix.Unlink(filepath.Join(dir, lockName)) })
		_ = eintr.Retry(func() error { return unix.Rmdir(dir) })
	}
}

// dirOf returns the directory that Listen created for an address, or "" if Listen created none.
func dirOf(address string) string {
	dir := filepath.Dir(address)
	if !filepath.IsAbs(address) || !strings.HasPrefix(filepath.Base(dir), dirPrefix) {
		return ""
	}
	return dir
}

// RemoveDead removes the sockets that this user's dead runs have left in the same place as the socket at an address. A
// run is dead when no process of graceful holds the lock of its socket any more.
func RemoveDead(address string) {
	dir := dirOf(address)
	if dir == "" {
		return
	}
	parent := filepath.Dir(dir)
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), dirPrefix) {
			removeIfDead(filepath.Join(parent, e.Name()))
		}
	}
}

// removeIfDead removes a socket's directory of this user if the lock in it is free. It ignores a directory of another
// user, or without a lock file.
func removeIfDead(dir string) {
	st, err := eintr.Lstatat(unix.AT_FDCWD, dir)
	if err != nil || int(st.Uid) != os.Geteuid() || st.Mode&unix.S_IFMT != unix.S_IFDIR { // a link may lead anywhere
		return
	}
	lock, err := eintr.Openat(unix.AT_FDCWD, filepath.Join(dir, lockName), unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(lock)
	if unix.Flock(lock, unix.LOCK_EX|unix.LOCK_NB) == nil {
		Remove(filepath.Join(dir, "socket"))
	}
}
