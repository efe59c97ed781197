package process

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
	"graceful/runner/procfs"
)

// Priority is the priority of the threads of this process (setpriority(2)): their nice values before it was raised.
type Priority map[int]int

// RaisePriority gives this process the highest priority, if it may have that (CAP_SYS_NICE). Among a hundred processes
// that fork and end it would run for a hundredth of the time. Without that right it changes nothing.
func RaisePriority() Priority {
	before := Priority{}
	for _, tid := range threads() {
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid) // 20 less the nice value
		if err == nil && unix.Setpriority(unix.PRIO_PROCESS, tid, highest) == nil {
			before[tid] = 20 - raw
		}
	}
	return before
}

// Restore gives each thread the priority that it had, and later threads that of the first one.
func (p Priority) Restore() {
	first, raised := p[unix.Getpid()]
	for _, tid := range threads() {
		nice, known := p[tid]
		if !known {
			nice = first
		}
		if known || raised {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice)
		}
	}
}

// threads lists the threads of this process. The target may have mounted something over /proc.
func threads() (tids []int) {
	fd, err := eintr.Openat(procfs.Dir(), "self/task", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), "task")
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids
}
