package runner

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// unreadable tells why not all is known of what our parent had ignored and blocked.
func unreadable() (hint string, why error) {
	_, _, why = runtimeSignals()
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
	own, _ := os.ReadFile("/proc/self/cgroup")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || f[0] != "0" && !slices.Contains(strings.Split(f[1], ","), "pids") {
			continue
		}
		for mount := range strings.Lines(string(mounts)) {
			before, after, _ := strings.Cut(mount, " - ")
			m, kind := strings.Fields(before), strings.Fields(after)
			if len(m) < 5 || len(kind) < 3 {
				continue
			}
			v2 := kind[0] == "cgroup2" && f[0] == "0"
			v1 := kind[0] == "cgroup" && f[0] != "0" && slices.Contains(strings.Split(kind[2], ","), "pids")
			below, inside := strings.CutPrefix(f[2], strings.TrimSuffix(m[3], "/"))
			if !inside || !v1 && !v2 {
				continue
			}
			for dir := path.Join(m[4], below); ; dir = path.Dir(dir) {
				dirs = append(dirs, dir)
				if len(dir) <= len(m[4]) {
					break
				}
			}
			break
		}
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
