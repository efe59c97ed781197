package procfs

import (
	"bytes"
	"strconv"

	"graceful/cleanup"
)

// UserHZ is the number of clock ticks in a second, in times that the kernel shows to processes (proc_pid_stat(5)).
const UserHZ = 100

// Identity identifies one process until the next boot of the machine.
type Identity = cleanup.Process

// StartOf returns the start time of a process in clock ticks (UserHZ) since boot, or 0 if it is unknown.
func StartOf(pid int) uint64 {
	fs, _ := Open()
	p, _ := fs.Read(pid)
	return p.Start
}

// Moment is a point in time that separates the processes born before from those born after. A start time alone is too
// coarse for that (10 ms).
type Moment struct {
	Tick uint64 // clock ticks since boot
	PID  int    // the last pid that the kernel had assigned; 0: unknown
}

// Precedes reports whether a process was certainly born after the moment. It returns false if that is unknown.
func (m Moment) Precedes(id Identity) bool {
	if id.Start != m.Tick || m.PID == 0 {
		return id.Start > m.Tick
	}
	// The kernel gives pids in ascending order and then starts again with the lowest (pid_namespaces(7)). The pids of
	// one tick are close to each other, or near opposite ends of the range.
	const far = 1 << 14
	return id.PID > m.PID && id.PID-m.PID < far || m.PID-id.PID > far
}

// ParsePIDs parses a list of pids: the text of /proc/PID/task/TID/children, or of a cgroup.procs file.
func ParsePIDs(list []byte) (pids []int) {
	for field := range bytes.FieldsSeq(list) {
		if pid, err := strconv.Atoi(string(field)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
