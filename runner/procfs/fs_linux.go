package procfs

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// FS is a mounted proc(5) that shows the PID namespace of this process. A nil *FS shows no processes.
type FS struct {
	dir         int  // descriptor of the directory
	hasChildren bool // CONFIG_PROC_CHILDREN: the kernel lists the children of a process
	busyPID     int  // see SetBusy; 0: none

	unreadable map[Identity]time.Time // times at which Environs last waited for a process in vain
	scanLimit  time.Time              // see SetScanLimit; zero: no limit
}

// dir opens /proc once, and returns the descriptor, or -1 and an error. The descriptor stays open, because the target
// may later mount over /proc or unmount it.
var dir = sync.OnceValues(func() (int, error) {
	fd, err := eintr.Openat(unix.AT_FDCWD, "/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	var fs unix.Statfs_t
	if err == nil {
		err = eintr.Retry(func() error { return unix.Fstatfs(fd, &fs) })
	}
	if err == nil && fs.Type != unix.PROC_SUPER_MAGIC {
		err = unix.ENOENT
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
})

// Dir returns a descriptor of the /proc that was mounted at the first call, or -1.
func Dir() int {
	fd, _ := dir()
	return fd
}

// Inherit makes fd the descriptor of /proc. fd is the result of Dir in another process. Inherit must be called before
// every other function of this package.
func Inherit(fd int) {
	dir = func() (int, error) { return fd, nil }
	if fd >= 0 {
		unix.CloseOnExec(fd)
	}
}

// Open opens /proc. It returns nil and an error if /proc is missing, or if /proc shows another PID namespace (unshare
// --pid without --mount-proc), because pids in that /proc refer to other processes.
func Open() (*FS, error) {
	fd, err := dir()
	if err != nil {
		return nil, err
	}
	return openAt(fd)
}

// openAt returns an FS for the /proc that a directory descriptor refers to. It returns the errors of Open.
func openAt(dir int) (*FS, error) {
	pid := strconv.Itoa(unix.Getpid())
	status, err := readFile(dir, "self/status", atEnd)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(status)) {
		// The line contains one pid for each PID namespace, from the namespace of the mount to the namespace of this
		// process (Linux 4.1).
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok && strings.TrimSpace(rest) != pid {
			return nil, errNamespace
		}
	}
	link, err := readLink(dir, "self")
	if err == nil && link != pid {
		err = errNamespace
	}
	if err != nil {
		return nil, err
	}
	_, err = readFile(dir, "self/task/"+pid+"/children", atEnd)
	return &FS{dir: dir, hasChildren: err == nil, unreadable: map[Identity]time.Time{}}, nil
}

var errNamespace = errors.New("it shows another PID namespace")

// Fake returns an FS for a directory of a test. hasChildren means that the directory contains children files.
func Fake(root string, hasChildren bool) *FS {
	return &FS{dir: openFake(root), hasChildren: hasChildren, unreadable: map[Identity]time.Time{}}
}

// openFake returns a descriptor of a directory of a test, or -1.
func openFake(root string) int {
	fd, err := eintr.Openat(unix.AT_FDCWD, root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1
	}
	return fd
}

// SetScanLimit sets the time at which scans of many processes end with a partial result. Without a limit, processes
// that fork faster than FS reads them would prolong a scan indefinitely. Zero means no limit.
func (fs *FS) SetScanLimit(t time.Time) {
	if fs != nil {
		fs.scanLimit = t
	}
}

// IsLate reports whether the time of SetScanLimit has passed. A scan may then have missed processes.
func (fs *FS) IsLate() bool {
	return fs != nil && !fs.scanLimit.IsZero() && time.Now().After(fs.scanLimit)
}

// HasChildren reports whether /proc lists the children of a process. If not, a scan must read every process.
func (fs *FS) HasChildren() bool { return fs != nil && fs.hasChildren }

// Read returns one process, dead or alive. ok is false if the process does not exist or is hidden.
func (fs *FS) Read(pid int) (p Process, ok bool) {
	if fs == nil {
		return Process{}, false
	}
	stat, err := readFile(fs.dir, strconv.Itoa(pid)+"/stat", func(data []byte) bool { return data[len(data)-1] == '\n' })
	if err != nil {
		return Process{}, false
	}
	p, ok = ParseStat(stat)
	return p, ok && p.PID == pid
}

// All lists every process that /proc shows, dead or alive. Once the scan limit has passed, the list is incomplete.
func (fs *FS) All() (found []Process) {
	for _, name := range fs.names(".") {
		if fs.IsLate() {
			break
		}
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := fs.Read(pid); ok {
				found = append(found, p)
			}
		}
	}
	return found
}

// Ignores reports whether a process ignores a signal. It returns false for a missing process.
func (fs *FS) Ignores(pid int, sig syscall.Signal) bool {
	text, _ := fs.read(pid, "status")
	status, err := ParseStatus(string(text))
	return err == nil && status.Ignored>>(sig-1)&1 == 1
}

// UserOf returns the real user id of a process, or -1.
func (fs *FS) UserOf(pid int) int {
	text, _ := fs.read(pid, "status")
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			if uid, err := strconv.Atoi(strings.Fields(ids + " -")[0]); err == nil {
				return uid
			}
		}
	}
	return -1
}

// RunsOwnExecutable reports whether a process runs the executable of this process. A process that graceful or the guard
// has forked does so until execve(2).
func (fs *FS) RunsOwnExecutable(pid int) bool {
	var own, other unix.Stat_t
	return fs != nil && unix.Fstatat(fs.dir, "self/exe", &own, 0) == nil &&
		unix.Fstatat(fs.dir, strconv.Itoa(pid)+"/exe", &other, 0) == nil && own.Dev == other.Dev && own.Ino == other.Ino
}

// Now returns the present moment. The last field of /proc/loadavg is the last pid that the kernel has assigned
// (proc_loadavg(5)).
func (fs *FS) Now() (m Moment) {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) == nil {
		m.Tick = uint64(now.Nano() / int64(time.Second/UserHZ))
	}
	load, _ := fs.readAt("loadavg")
	if fields := bytes.Fields(load); len(fields) > 0 {
		m.PID, _ = strconv.Atoi(string(fields[len(fields)-1]))
	}
	return m
}

// read reads a file about a process.
func (fs *FS) read(pid int, name string) ([]byte, error) {
	return fs.readAt(strconv.Itoa(pid) + "/" + name)
}

// readAt reads a file. A nil *FS has no files.
func (fs *FS) readAt(name string) ([]byte, error) {
	if fs == nil {
		return nil, unix.ENOENT
	}
	return readFile(fs.dir, name, atEnd)
}

// names lists the names in a directory. It returns nil if the directory cannot be read.
func (fs *FS) names(name string) []string {
	if fs == nil {
		return nil
	}
	fd, err := eintr.Openat(fs.dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return names
}

// ReadFile reads a file of a pseudo file system, such as cgroupfs. os.ReadFile makes five more system calls to find out
// whether the runtime's poller supports the file. Killing a tree reads thousands of files.
func ReadFile(path string) ([]byte, error) { return readFile(unix.AT_FDCWD, path, atEnd) }

// Read reads a file of /proc.
func Read(name string) ([]byte, error) { return readFile(Dir(), name, atEnd) }

// Readlink returns the text of a link in /proc.
func Readlink(name string) (string, error) { return readLink(Dir(), name) }

// Stat returns the status of the file to which a name in /proc leads.
func Stat(name string) (status unix.Stat_t, err error) {
	err = eintr.Retry(func() error { return unix.Fstatat(Dir(), name, &status, 0) })
	return status, err
}

// IsBelow reports whether a process is ancestor itself or a descendant of ancestor.
func IsBelow(pid, ancestor int) bool {
	for pid > 1 && pid != ancestor {
		stat, err := Read(strconv.Itoa(pid) + "/stat")
		p, ok := ParseStat(stat)
		if err != nil || !ok {
			return false
		}
		pid = p.PPID
	}
	return pid == ancestor
}

// SetName sets the name of this process (proc_pid_comm(5)).
func SetName(name string) {
	if fd, err := eintr.Openat(Dir(), "self/comm", unix.O_WRONLY, 0); err == nil {
		_, _ = unix.Write(fd, []byte(name))
		unix.Close(fd)
	}
}

func readLink(dir int, name string) (string, error) {
	text := make([]byte, unix.PathMax)
	n, err := eintr.RetryValue(func() (int, error) { return unix.Readlinkat(dir, name, text) })
	return string(text[:max(n, 0)]), err
}

func readFile(dir int, name string, stop func(data []byte) bool) ([]byte, error) {
	fd, err := eintr.Openat(dir, name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	const typicalSize = 512 // bytes: enough for a stat file
	return readAll(fd, make([]byte, 0, typicalSize), stop)
}

// atEnd makes readFile read a file to its end.
func atEnd([]byte) bool { return false }

// readAll appends the data of a descriptor to data, until the end or until stop returns true.
func readAll(fd int, data []byte, stop func(data []byte) bool) ([]byte, error) {
	for {
		n, err := eintr.RetryValue(func() (int, error) { return unix.Read(fd, data[len(data):cap(data)]) })
		if err != nil || n == 0 {
			return data, err
		}
		if data = data[:len(data)+n]; stop(data) {
			return data, nil
		}
		if len(data) == cap(data) {
			data = slices.Grow(data, len(data))
		}
	}
}

// Boot returns a text that identifies the boot of the machine and the PID namespace, or "" if they cannot be read.
// Identities that two processes have recorded are comparable only if Boot returned the same text in both, and not "".
var Boot = sync.OnceValue(func() string {
	id, err := Read("sys/kernel/random/boot_id")
	namespace, nsErr := Readlink("self/ns/pid")
	if err != nil || nsErr != nil {
		return ""
	}
	return strings.TrimSpace(string(id)) + " " + namespace
})
