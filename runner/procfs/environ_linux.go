package procfs

import (
	"bytes"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Marked reports whether a process was started with a variable, given as NAME=value.
func (fs *FS) Marked(pid int, mark string) bool {
	name, value, _ := strings.Cut(mark, "=")
	v, ok := fs.Environ(pid, name)
	return ok && v == value
}

// Environ returns a variable's value in the environment that a living process was started with, as far as we may read it.
func (fs *FS) Environ(pid int, name string) (value string, ok bool) {
	for range 1000 {
		data, err := ReadFile(fs.file(pid, "environ"))
		if value, ok = variable(data[:bytes.LastIndexByte(data, 0)+1], name); ok {
			return value, true
		}
		// EACCES: it is another user's, or about to end. Its files belong to root as soon as it has given back its memory.
		refused := err != nil && err != unix.ESRCH && err != unix.EACCES && err != unix.EPERM
		if refused || fs.isComplete(pid, len(data)) {
			return "", false
		}
		time.Sleep(time.Millisecond)
	}
	return "", false
}

// isComplete reports whether n bytes are the whole environment of a process. During execve(2), which sets up the code last, and
// during exit it may be empty or truncated: retry.
func (fs *FS) isComplete(pid, n int) bool {
	p, ok := fs.Read(pid)
	if !ok || p.kernelThread || p.Ending {
		return true
	}
	return p.code != 0 && (p.environEnd == 0 || uint64(n) == p.environEnd-p.environStart)
}

// variable finds a variable in an environment as proc_pid_environ(5) shows it.
func variable(environ []byte, name string) (value string, ok bool) {
	for kv := range bytes.SplitSeq(environ, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
			return string(v), true
		}
	}
	return "", false
}
