package doctor

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"graceful/runner/procfs"

	"golang.org/x/sys/unix"
)

// limits describes the limits on threads and processes.
func limits() (found []string) {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &l) == nil && l.Cur != unix.RLIM_INFINITY {
		found = append(found, fmt.Sprintf("ulimit -u %d", l.Cur))
	}
	for _, dir := range pidsCgroups() {
		most, _ := os.ReadFile(dir + "/pids.max")
		now, _ := os.ReadFile(dir + "/pids.current")
		if limit := strings.TrimSpace(string(most)); limit != "" && limit != "max" {
			found = append(found, fmt.Sprintf("%s/pids.max %s, now %s", dir, limit, strings.TrimSpace(string(now))))
		}
	}
	return found
}

// pidsCgroups returns the directories of graceful's own cgroups that may limit processes, and of the visible cgroups
// above them (cgroups(7)).
func pidsCgroups() (dirs []string) {
	own, _ := procfs.ReadFile("/proc/self/cgroup")
	mountinfo, _ := procfs.ReadFile("/proc/self/mountinfo")
	mounts := procfs.ParseMounts(string(mountinfo))
	for _, c := range procfs.OwnCgroups(string(own)) {
		if !c.V2 && !slices.Contains(c.Controllers, "pids") {
			continue
		}
		i := slices.IndexFunc(mounts, func(m procfs.Mount) bool {
			_, visible := m.Dir(c.Path)
			return visible && (c.V2 && m.Type == "cgroup2" || !c.V2 && m.Type == "cgroup" && m.Has("pids"))
		})
		if i < 0 {
			continue
		}
		dir, _ := mounts[i].Dir(c.Path)
		for ; len(dir) > len(mounts[i].Point); dir = path.Dir(dir) {
			dirs = append(dirs, dir)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}
