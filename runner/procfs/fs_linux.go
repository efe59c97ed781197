package procfs

import (
	"bytes"
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

// FS is a mounted proc(5) that shows the PID namespace of this process. A nil *FS shows no process.
type FS struct {
	root        string
	hasChildren bool // CONFIG_PROC_CHILDREN: the kernel lists a process's children
	busy        int  // see Busy; 0: none
}

// Open opens /proc. It returns nil if /proc is missing or shows another PID namespace (unshare --pid without
// --mount-proc): its pids would name other processes.
func Open() *FS { return openAt("/proc") }

// openAt is Open for a /proc that is mounted elsewhere.
func openAt(root string) *FS {
	pid := strconv.Itoa(unix.Getpid())
	status, err := ReadFile(root + "/self/status")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(status)) {
		// One pid for each PID namespace, from that of the mount down to that of this process (Linux 4.1).
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok && strings.TrimSpace(rest) != pid {
			return nil
		}
	}
	if link, err := os.Readlink(root + "/self"); err != nil || link != pid {
		return nil
	}
	_, err = ReadFile(root + "/self/task/" + pid + "/children")
	return Fake(root, err == nil)
}

// Fake returns an FS for a directory that a test has made. hasChildren tells whether it has children files.
func Fake(root string, hasChildren bool) *FS { return &FS{root: root, hasChildren: hasChildren} }

// HasChildren reports whether /proc lists the children of a process, so that not every process must be read.
func (fs *FS) HasChildren() bool { return fs != nil && fs.hasChildren }

// Read returns one process, dead or alive. ok is false if it is gone or hidden.
func (fs *FS) Read(pid int) (p Process, ok bool) {
	stat, err := ReadFile(fs.file(pid, "stat"))
	if err != nil {
		return Process{}, false
	}
	p, ok = ParseStat(stat)
	return p, ok && p.PID == pid
}

// All lists every process that /proc shows, dead or alive.
func (fs *FS) All() (found []Process) {
	for _, name := range readNames(fs.path("")) {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := fs.Read(pid); ok {
				found = append(found, p)
			}
		}
	}
	return found
}

// Children lists the children of all threads of a process, dead or alive. A process that is a child during the whole
// call is always listed, if the process reaps none meanwhile (Documentation/filesystems/proc.rst of Linux), or is the
// one of Busy.
func (fs *FS) Children(pid int) (pids []int) {
	pids = fs.children(pid)
	for range maxReads {
		if fs == nil || pid != fs.busy {
			return pids
		}
		before := pids
		if pids = fs.children(pid); slices.Equal(pids, before) {
			return pids
		}
	}
	return pids
}

// maxReads is how often the children of a busy process are listed until two lists are the same.
const maxReads = 16

// Busy declares that a process reaps children while Children lists them.
func (fs *FS) Busy(pid int) { fs.busy = pid }

func (fs *FS) children(pid int) (pids []int) {
	if !fs.HasChildren() {
		return fs.byParent()[pid]
	}
	for _, tid := range readNames(fs.file(pid, "task")) {
		list, _ := ReadFile(fs.file(pid, "task/"+tid+"/children"))
		pids = append(pids, ParsePIDs(list)...)
	}
	return pids
}

// Descendants lists the living descendants of a process, parents before their children. It leaves out the pids in
// without, with their descendants.
func (fs *FS) Descendants(root int, without []int) (found []Process) {
	fs.Walk(root, without, func(pid, _ int) {
		if p, ok := fs.Read(pid); ok && !p.Dead {
			found = append(found, p)
		}
	})
	return found
}

// Walk visits the descendants of a process, dead or alive, each before its children are listed. It leaves out the pids
// in without, with their descendants. A process that is found dead may have had children when it was listed.
func (fs *FS) Walk(root int, without []int, visit func(pid, parent int)) {
	children := fs.Children
	if !fs.HasChildren() {
		byParent := fs.byParent()
		children = func(pid int) []int { return byParent[pid] }
	}
	seen := map[int]bool{root: true}
	for _, pid := range without {
		seen[pid] = true
	}
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		for _, child := range children(queue[0]) {
			if !seen[child] {
				seen[child] = true
				visit(child, queue[0])
				queue = append(queue, child)
			}
		}
	}
}

// Environ returns the value of a variable in the environment that a living process was started with. ok is false if the
// variable is not set or the environment cannot be read. During execve(2) and exit Environ retries for up to a second.
func (fs *FS) Environ(pid int, name string) (value string, ok bool) {
	const tries, pause = 1000, time.Millisecond
	for range tries {
		data, err := ReadFile(fs.file(pid, "environ"))
		for kv := range bytes.SplitSeq(data[:bytes.LastIndexByte(data, 0)+1], []byte{0}) {
			if value, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
				return string(value), true
			}
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

// Ignores reports whether a process ignores a signal. A process that is gone does not.
func (fs *FS) Ignores(pid int, sig syscall.Signal) bool {
	text, _ := ReadFile(fs.file(pid, "status"))
	status, err := ParseStatus(string(text))
	return err == nil && status.Ignored>>(sig-1)&1 == 1
}

// RunsUs reports whether a process runs the executable of this process, as a child does between fork(2) and execve(2).
func (fs *FS) RunsUs(pid int) bool {
	var own, other unix.Stat_t
	return unix.Stat(fs.path("self/exe"), &own) == nil && unix.Stat(fs.file(pid, "exe"), &other) == nil &&
		own.Dev == other.Dev && own.Ino == other.Ino
}

// Now returns the present moment. The last field of /proc/loadavg is the pid that was given last (proc_loadavg(5)).
func (fs *FS) Now() (m Moment) {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) == nil {
		m.Tick = uint64(now.Nano() / int64(time.Second/UserHZ))
	}
	load, _ := ReadFile(fs.path("loadavg"))
	if fields := bytes.Fields(load); len(fields) > 0 {
		m.PID, _ = strconv.Atoi(string(fields[len(fields)-1]))
	}
	return m
}

// byParent maps each process to its children, for a kernel that does not list them.
func (fs *FS) byParent() map[int][]int {
	children := map[int][]int{}
	for _, p := range fs.All() {
		children[p.PPID] = append(children[p.PPID], p.PID)
	}
	return children
}

// file returns the path of a file about a process.
func (fs *FS) file(pid int, name string) string {
	return fs.path(strconv.Itoa(pid) + "/" + name)
}

// path returns the path of a file in /proc. For a nil *FS that is "", which is no file.
func (fs *FS) path(name string) string {
	if fs == nil {
		return ""
	}
	return fs.root + "/" + name
}

// ReadFile reads a file of /proc. os.ReadFile makes five more system calls, to find out whether the runtime's poller
// can wait for the file. Killing a tree reads thousands of files.
func ReadFile(path string) ([]byte, error) {
	fd, err := eintr.Openat(unix.AT_FDCWD, path, unix.O_RDONLY, 0)
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

// readNames lists the names in a directory; nil if it cannot be read.
func readNames(path string) []string {
	fd, err := eintr.Openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return names
}

// Boot returns a text that changes with the boot of the machine and with the PID namespace. Identities may be compared
// only if their texts are equal. It returns "" if the text cannot be read.
var Boot = sync.OnceValue(func() string {
	id, err := ReadFile("/proc/sys/kernel/random/boot_id")
	namespace, nsErr := os.Readlink("/proc/self/ns/pid")
	if err != nil || nsErr != nil {
		return ""
	}
	return strings.TrimSpace(string(id)) + " " + namespace
})
