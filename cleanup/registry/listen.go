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

// maxPath is what a socket's address holds; Linux's is the longer one.
const maxPath = 103

// backlog is how many may wait to be taken; the system may allow fewer.
const backlog = 4096

// Listen makes the socket of a run: in a directory of its own, which nobody but we and root may enter, in the first place
// that can be written to and that others cannot tamper with. A place in memory is preferred, since nothing of it outlives
// the machine, and /dev/shm is there in a container whose root file system is read-only. Where there is none at all, Linux
// has addresses without a file (unix(7)): these anybody can connect to, and is then refused.
func Listen(id string) (fd int, address string, err error) {
	var errs []error
	for _, place := range places() {
		fd, address, err := listenBelow(place, id)
		if err == nil {
			return fd, address, nil
		}
		errs = append(errs, err)
	}
	if runtime.GOOS == "linux" {
		address := "@graceful-" + id
		fd, err := listenAt(address)
		if err == nil {
			return fd, address, nil
		}
		errs = append(errs, err)
	}
	return -1, "", fmt.Errorf("no place for the socket: %w", errors.Join(errs...))
}

func places() []string {
	list := []string{os.Getenv("XDG_RUNTIME_DIR"), "/run", "/dev/shm", os.Getenv("TMPDIR"), "/tmp"}
	var found []string
	for _, place := range list {
		if filepath.IsAbs(place) && trusted(place) {
			found = append(found, place)
		}
	}
	return found
}

// trusted: what we make there, nobody but root can rename or replace.
func trusted(dir string) bool {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return false
	}
	return uint32(st.Mode)&0o022 == 0 || uint32(st.Mode)&unix.S_ISVTX != 0
}

func listenBelow(place, id string) (fd int, address string, err error) {
	dir := filepath.Join(place, ownDir+id[:min(len(id), 16)])
	address = filepath.Join(dir, "socket")
	if len(address) > maxPath {
		return -1, "", fmt.Errorf("%s is too long", address)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return -1, "", err
	}
	fd = -1
	if err = os.Chmod(dir, 0o700); err == nil { // whatever the umask is
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

const ownDir = "graceful-"

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

func newSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}

// Remove removes what Listen has made in the file system.
func Remove(address string) {
	dir := filepath.Dir(address)
	if filepath.IsAbs(address) && strings.HasPrefix(filepath.Base(dir), ownDir) {
		_ = os.Remove(address)
		_ = os.Remove(dir)
	}
}
