package procfs

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// Children lists the children of all threads of a process, dead or alive. If the parent reaps a child meanwhile, the
// list may lack other children (Documentation/filesystems/proc.rst of Linux). So for the process of SetBusy, Children
// repeats the list until two consecutive lists are equal, at most maxReads times, and not after the scan limit.
func (fs *FS) Children(pid int) (pids []int) {
	pids = fs.children(pid)
	for range maxReads {
		if fs == nil || pid != fs.busyPID || fs.IsLate() {
			return pids
		}
		before := pids
		if pids = fs.children(pid); slices.Equal(pids, before) {
			return pids
		}
	}
	return pids
}

// maxReads is the maximum number of times that Children lists the children of a busy process again.
const maxReads = 16

// SetBusy declares that a process may reap children while Children lists them.
func (fs *FS) SetBusy(pid int) { fs.busyPID = pid }

func (fs *FS) children(pid int) (pids []int) {
	if !fs.HasChildren() {
		return fs.byParent()[pid]
	}
	for _, tid := range fs.threads(pid) {
		pids = append(pids, fs.childrenOfThread(pid, tid)...)
	}
	return pids
}

// threads lists the threads of a process. It reads the directory only if the process has several threads, because one
// system call is cheaper than five. The directory has a link for each thread, and two more, as every directory has.
func (fs *FS) threads(pid int) []string {
	const linksOfOne = 3
	first := strconv.Itoa(pid)
	if st, err := eintr.Lstatat(fs.dir, first+"/task"); err == nil && st.Nlink == linksOfOne {
		return []string{first}
	}
	return fs.names(first + "/task")
}

// Adopted lists the children of the first thread of a process, dead or alive. The kernel reparents orphans to that
// thread. Adopted returns none on a kernel that does not list children.
func (fs *FS) Adopted(pid int) []int {
	if !fs.HasChildren() {
		return nil
	}
	return fs.childrenOfThread(pid, strconv.Itoa(pid))
}

func (fs *FS) childrenOfThread(pid int, tid string) []int {
	fd, err := eintr.Openat(fs.dir, fmt.Sprintf("%d/task/%s/children", pid, tid), unix.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	list, _ := readAll(fd, make([]byte, 0, unix.Getpagesize()), func([]byte) bool { return fs.IsLate() })
	if fs.IsLate() { // the last number may be incomplete
		list = list[:bytes.LastIndexByte(list, ' ')+1]
	}
	return ParsePIDs(list)
}

// Descendants lists the live descendants of a process, parents before their children. It omits the pids in without, and
// their descendants.
func (fs *FS) Descendants(root int, without []int) (found []Process) {
	fs.Walk(root, without, func(pid, _ int) (descend bool) {
		p, ok := fs.Read(pid)
		if ok && !p.Dead {
			found = append(found, p)
		}
		return !p.Dead
	})
	return found
}

// Walk visits the descendants of a process, dead or alive, until the scan limit has passed. It visits each one before
// it lists the children of that one. It omits the pids in without, and their descendants. visit returns false if the
// children of a process need not be listed. The children of a dead process need not be listed, because they are
// reparented before the process becomes a zombie. On a kernel that does not list children, Walk first reads the parents
// of all processes, and ignores the result of visit.
func (fs *FS) Walk(root int, without []int, visit func(pid, parent int) (descend bool)) {
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
		// Start with the youngest child. In a tree in which many processes end and fork, most older children
		// are zombies.
		for _, child := range slices.Backward(children(queue[0])) {
			if fs.IsLate() {
				return
			}
			if !seen[child] {
				seen[child] = true
				if visit(child, queue[0]) || !fs.HasChildren() { // the map may be older than the reparenting
					queue = append(queue, child)
				}
			}
		}
	}
}

// byParent maps the pid of each process to the pids of its children, on a kernel that does not list children.
func (fs *FS) byParent() map[int][]int {
	children := map[int][]int{}
	for _, p := range fs.All() {
		children[p.PPID] = append(children[p.PPID], p.PID)
	}
	return children
}
