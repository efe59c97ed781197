package process

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
	"graceful/runner/procfs"
)

// Priority maps the threads of this process to the nice values from before RaisePriority (setpriority(2)).
type Priority map[int]int

// RaisePriority gives this process the highest priority, if it may (CAP_SYS_NICE). Otherwise it changes nothing.
// Restore of the result undoes the change. With its normal share of the time, a process cannot keep up with a hundred
// processes that fork and end.
func RaisePriority() Priority {
	before := Priority{}
	for _, tid := range threads() {
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, tid) // 20 minus the nice value
		if err == nil && unix.Setpriority(unix.PRIO_PROCESS, tid, highest) == nil {
			before[tid] = 20 - raw
		}
	}
	return before
}

// Restore gives each thread its old priority. A thread that is newer than RaisePriority gets that of the first thread.
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

// threads lists the threads of this process. It uses procfs.Dir, because the target may mount over /proc.
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
