package tree

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// procfs reads process relations from proc(5).
type procfs struct {
	root         string
	haveChildren bool // CONFIG_PROC_CHILDREN
}

// readAll reads a file of /proc. (os.ReadFile asks first whether the runtime could wait for it: five more system calls,
// for each of thousands of files while a tree is killed.)
func readAll(path string) ([]byte, error) {
	fd, err := openFile(path, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	data := make([]byte, 0, 512)
	for {
		n, err := unix.Read(fd, data[len(data):cap(data)])
		switch {
		case err == unix.EINTR:
		case err != nil || n == 0:
			return data, err
		default:
			data = data[:len(data)+n]
		}
		if len(data) == cap(data) {
			data = slices.Grow(data, len(data))
		}
	}
}

func openFile(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// names lists a directory of /proc.
func names(path string) []string {
	fd, err := openFile(path, unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return names
}

// openProc returns nil where /proc is missing, or belongs to another PID namespace (unshare --pid without
// --mount-proc): its numbers would name other people's processes.
func openProc() *procfs { return openProcAt("/proc") }

func openProcAt(root string) *procfs {
	pid := unix.Getpid()
	status, err := readAll(root + "/self/status")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(status)) {
		// One number for each namespace from that of the mount down to the process's own (since Linux 4.1).
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok && strings.TrimSpace(rest) != strconv.Itoa(pid) {
			return nil
		}
	}
	if link, err := os.Readlink(root + "/self"); err != nil || link != strconv.Itoa(pid) {
		return nil
	}
	_, err = readAll(fmt.Sprintf("%s/self/task/%d/children", root, pid))
	return &procfs{root: root, haveChildren: err == nil}
}

// read returns one process, dead or alive.
func (fs *procfs) read(pid int) (Process, bool) {
	stat, err := readAll(fs.root + "/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Process{}, false
	}
	p, ok := parseStat(stat)
	return p, ok && p.PID == pid
}

// parseStat reads /proc/PID/stat. The name stands in parentheses and may itself contain blanks, parentheses and
// newlines, so the last parenthesis counts. A zombie is dead, but a process is alive whose first thread alone has
// ended, though it too is shown in state Z.
func parseStat(stat []byte) (p Process, ok bool) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 1 || end < open {
		return Process{}, false
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 20 {
		return Process{}, false
	}
	field := func(n int) string { return fields[n-3] } // as proc(5) counts them
	p.Name = string(stat[open+1 : end])
	p.PID, _ = strconv.Atoi(strings.TrimSpace(string(stat[:open])))
	p.PPID, _ = strconv.Atoi(field(4))
	p.Group, _ = strconv.Atoi(field(5))
	threads, _ := strconv.Atoi(field(20))
	p.Start, _ = strconv.ParseUint(field(22), 10, 64)
	state := field(3)
	p.ending = state == "Z" || state == "X"
	p.dead = p.ending && threads <= 1
	return p, true
}

// all lists every process that /proc shows.
func (fs *procfs) all() []Process {
	var found []Process
	for _, name := range names(fs.root) {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := fs.read(pid); ok {
				found = append(found, p)
			}
		}
	}
	return found
}

// children lists the children of all threads of a process, dead or alive. Nobody is left out who is its child
// from before the call until after it.
func (fs *procfs) children(pid int) []int {
	if !fs.haveChildren {
		return fs.byParent()[pid]
	}
	tasks := fs.root + "/" + strconv.Itoa(pid) + "/task"
	var pids []int
	for _, tid := range names(tasks) {
		list, _ := readAll(tasks + "/" + tid + "/children")
		for field := range bytes.FieldsSeq(list) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// marked tells whether a process has a variable, NAME=value, in the environment that it was started with.
func (fs *procfs) marked(pid int, mark string) bool {
	name, value, _ := strings.Cut(mark, "=")
	v, ok := fs.environ(pid, name)
	return ok && v == value
}

// environ is a variable's value in the environment that a living process was started with, as far as we may see that.
func (fs *procfs) environ(pid int, name string) (value string, ok bool) {
	for range 1000 {
		data, err := readAll(fs.root + "/" + strconv.Itoa(pid) + "/environ")
		if value, ok = variable(data[:bytes.LastIndexByte(data, 0)+1], name); ok {
			return value, true
		}
		// EACCES: it is another user's, or about to end: the file is root's as soon as the memory is given back.
		refused := err != nil && err != unix.ESRCH && err != unix.EACCES && err != unix.EPERM
		if refused || fs.isEnvironment(pid, len(data)) {
			return "", false
		}
		time.Sleep(time.Millisecond)
	}
	return "", false
}

// isEnvironment tells whether so many bytes are all of a process's environment. In the middle of execve(2), where its
// code is the last that comes, and of its end it has none for a moment, and who is reading it then gets a part.
func (fs *procfs) isEnvironment(pid, n int) bool {
	stat, err := readAll(fs.root + "/" + strconv.Itoa(pid) + "/stat")
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if err != nil || len(fields) < 49 {
		return true
	}
	field := func(n int) string { return fields[n-3] } // as proc(5) counts them
	const kernelThread = 0x00200000                    // PF_KTHREAD: these never have one
	flags, _ := strconv.ParseUint(field(9), 10, 64)
	if state := field(3); flags&kernelThread != 0 || state == "Z" || state == "X" {
		return true
	}
	start, _ := strconv.ParseUint(field(50), 10, 64)
	end, _ := strconv.ParseUint(field(51), 10, 64)
	return field(26) != "0" && (end == 0 || uint64(n) == end-start)
}

// moment is now. The last pid is the last field of /proc/loadavg (proc_loadavg(5)).
func (fs *procfs) moment() (m moment) {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) == nil {
		m.tick = uint64(now.Nano() / int64(time.Second/userHZ))
	}
	load, _ := readAll(fs.root + "/loadavg")
	if fields := bytes.Fields(load); len(fields) > 0 {
		m.pid, _ = strconv.Atoi(string(fields[len(fields)-1]))
	}
	return m
}

// userHZ is how many clock ticks a second has for everything outside of the kernel (proc_pid_stat(5)).
const userHZ = 100

// ignores reports whether a process ignores a signal (SigIgn in proc_pid_status(5)). One that is gone does not.
func (fs *procfs) ignores(pid int, sig syscall.Signal) bool {
	status, _ := readAll(fs.root + "/" + strconv.Itoa(pid) + "/status")
	for line := range bytes.Lines(status) {
		if mask, ok := bytes.CutPrefix(line, []byte("SigIgn:")); ok {
			set, err := strconv.ParseUint(string(bytes.TrimSpace(mask)), 16, 64)
			return err == nil && set>>(sig-1)&1 == 1
		}
	}
	return false
}

func (fs *procfs) runsUs(pid int) bool {
	var us, it unix.Stat_t
	return unix.Stat(fs.root+"/self/exe", &us) == nil && unix.Stat(fs.root+"/"+strconv.Itoa(pid)+"/exe", &it) == nil &&
		us.Dev == it.Dev && us.Ino == it.Ino
}

// variable finds one in an environment as proc(5) shows it.
func variable(environ []byte, name string) (value string, ok bool) {
	for kv := range bytes.SplitSeq(environ, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
			return string(v), true
		}
	}
	return "", false
}

// byParent does the work of children for all processes at once, where the kernel does not list them.
func (fs *procfs) byParent() map[int][]int {
	below := map[int][]int{}
	for _, p := range fs.all() {
		below[p.PPID] = append(below[p.PPID], p.PID)
	}
	return below
}

// descendants lists who is alive below a process, parents before their children, leaving out the processes
// named and what is below them.
func (fs *procfs) descendants(root int, without []int) (found []Process) {
	fs.walk(root, without, func(pid, _ int) {
		if p, ok := fs.read(pid); ok && !p.dead {
			found = append(found, p)
		}
	})
	return found
}

// walk visits what is below a process, dead or alive, each before its children are looked for. The dead are walked
// through all the same: they may have had children when we looked for those.
func (fs *procfs) walk(root int, without []int, visit func(pid, parent int)) {
	children := fs.children
	if !fs.haveChildren {
		below := fs.byParent()
		children = func(pid int) []int { return below[pid] }
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
