package procfs

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// ReadFile reads a file of /proc. os.ReadFile makes five more system calls, to find out whether the runtime's poller
// can wait for the file. Killing a tree reads thousands of files.
func ReadFile(path string) ([]byte, error) {
	fd, err := OpenFile(path, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	const typicalSize = 512 // bytes: enough for a stat file
	data := make([]byte, 0, typicalSize)
	for {
		n, err := eintr.RetryValue(func() (int, error) { return unix.Read(fd, data[len(data):cap(data)]) })
		if err != nil || n == 0 {
			return data, err
		}
		data = data[:len(data)+n]
		if len(data) == cap(data) {
			data = slices.Grow(data, len(data))
		}
	}
}

// OpenFile opens a file for reading, with further open(2) flags. The caller closes the descriptor.
func OpenFile(path string, flags int) (int, error) {
	return eintr.Openat(unix.AT_FDCWD, path, unix.O_RDONLY|flags, 0)
}

// readNames lists the names in a directory; nil if it cannot be read.
func readNames(path string) []string {
	fd, err := OpenFile(path, unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return names
}
