package runner

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"graceful/runner/process"
	"graceful/runner/procfs"

	"golang.org/x/sys/unix"
)

// unreadable tells why not all is known of what our parent had ignored and blocked.
func unreadable() (hint string, why error) {
	_, _, why = process.RuntimeSignals()
	switch {
	case why == nil:
	case errors.Is(why, elf.ErrNoSymbols):
		hint = "this graceful was stripped: build it without -ldflags=-s"
	case errors.Is(why, unix.ENOENT):
		hint = "mount /proc"
	}
	return hint, why
}

// limits tells how many threads and processes there may be.
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

// pidsCgroups lists our cgroups that may limit processes, each with those above it, as far as they can be seen
// (cgroups(7)).
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

// fileSystem tells why a directory may end with the machine or the container, or is not this machine's alone.
func fileSystem(dir string) (why string, ends bool) {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return "", false
	}
	switch uint32(fs.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return "it is in memory (tmpfs), and ends with the machine", true
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "it is in a layer of a container (overlay), and ends with that", true
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC,
		unix.AFS_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC:
		return "it is on a network: another machine that uses it may take runs of this one for killed", false
	}
	return "", false
}
