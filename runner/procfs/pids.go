package procfs

import (
	"bytes"
	"strconv"
)

// ParsePIDs reads a list of pids: the text of /proc/PID/task/TID/children, or of a cgroup.procs file.
func ParsePIDs(list []byte) (pids []int) {
	for field := range bytes.FieldsSeq(list) {
		if pid, err := strconv.Atoi(string(field)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
