package doctor

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/cleanup/ledger"
	"graceful/runner/procfs"
)

// The functions in this file examine what graceful can examine only on Linux: limits, capabilities and file systems.

// limits describes the limits on threads and processes.
func limits() (found []string) {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &l) == nil && l.Cur != unix.RLIM_INFINITY {
		found = append(found, fmt.Sprintf("ulimit -u %d", l.Cur))
	}
	for _, dir := range pidsCgroups() {
		text, _ := os.ReadFile(dir + "/pids.max")
		now, _ := os.ReadFile(dir + "/pids.current")
		if limit := strings.TrimSpace(string(text)); limit != "" && limit != "max" {
			found = append(found, fmt.Sprintf("%s/pids.max %s, now %s", dir, limit, strings.TrimSpace(string(now))))
		}
	}
	return found
}

// mayKill reports whether graceful has CAP_KILL. If that is unknown, mayKill returns true.
func mayKill() bool {
	text, err := procfs.Read("self/status")
	status, err2 := procfs.ParseStatus(string(text))
	return err != nil || err2 != nil || status.Permitted>>unix.CAP_KILL&1 == 1
}

// pidsCgroups returns the directories of graceful's own cgroups that may limit processes, and of the visible cgroups
// above them (cgroups(7)).
func pidsCgroups() (dirs []string) {
	own, _ := procfs.Read("self/cgroup")
	mountinfo, _ := procfs.Read("self/mountinfo")
	mounts := procfs.ParseMounts(string(mountinfo))
	for _, c := range procfs.OwnCgroups(string(own)) {
		if !c.V2 && !slices.Contains(c.Controllers, "pids") {
			continue
		}
		for _, m := range mounts {
			dir, visible := m.Dir(c.Path)
			if !visible || c.V2 && m.Type != "cgroup2" || !c.V2 && (m.Type != "cgroup" || !m.Has("pids")) {
				continue
			}
			for ; len(dir) > len(m.Point); dir = path.Dir(dir) {
				dirs = append(dirs, dir)
			}
			dirs = append(dirs, dir)
			break
		}
	}
	return dirs
}

// fileSystem reports whether a directory ends with the machine or the container. why is the reason if it does, or a
// warning about a network file system. If there is neither, why is "".
func fileSystem(dir string) (why string, ends bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return "", false
	}
	switch uint32(st.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return "it is in memory (tmpfs), and ends with the machine", true
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "it is in a layer of a container (overlay), and ends with that", true
	}
	if ledger.IsNetwork(st) {
		return "it is on a network: a machine that is cut off from it loses the locks of its runs", false
	}
	return "", false
}
