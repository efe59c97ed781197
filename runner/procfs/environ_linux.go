package procfs

import (
	"bytes"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Environ returns the value of a variable in the environment that a living process was started with. ok is false if the
// variable is not set or the environment cannot be read. During execve(2) and exit Environ retries for up to a second.
func (fs *FS) Environ(pid int, name string) (value string, ok bool) {
	const (
		tries = 1000
		pause = time.Millisecond
	)
	for range tries {
		data, err := ReadFile(fs.file(pid, "environ"))
		if value, ok = variable(data[:bytes.LastIndexByte(data, 0)+1], name); ok {
			return value, true
		}
		// EACCES: the process is another user's, or about to end. Its files belong to root once its memory is freed.
		refused := err != nil && err != unix.ESRCH && err != unix.EACCES && err != unix.EPERM
		if refused || fs.isComplete(pid, len(data)) {
			return "", false
		}
		time.Sleep(pause)
	}
	return "", false
}

// Marked reports whether a process was started with a variable, given as NAME=value.
func (fs *FS) Marked(pid int, mark string) bool {
	name, value, _ := strings.Cut(mark, "=")
	v, ok := fs.Environ(pid, name)
	return ok && v == value
}

// isComplete reports whether n bytes are the whole environment of a process. During execve(2), which sets up the code
// last, and during exit the environment may be empty or truncated: retry.
func (fs *FS) isComplete(pid, n int) bool {
	p, ok := fs.Read(pid)
	if !ok || p.kernelThread || p.Ending {
		return true
	}
	return p.startCode != 0 && (p.environEnd == 0 || uint64(n) == p.environEnd-p.environStart)
}

// variable finds a variable in the text of /proc/PID/environ (proc_pid_environ(5)).
func variable(environ []byte, name string) (value string, ok bool) {
	for kv := range bytes.SplitSeq(environ, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
			return string(v), true
		}
	}
	return "", false
}
