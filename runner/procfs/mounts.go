package procfs

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// Mount is a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	Root    string // what is mounted, a directory of its file system
	Point   string // where
	Type    string // of the file system: cgroup2
	Options []string
}

// ParseMounts reads the text of a mountinfo file.
func ParseMounts(mountinfo string) (mounts []Mount) {
	const root, point = 3, 4
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		mount, system := strings.Fields(before), strings.Fields(after)
		if len(mount) <= point+1 || len(system) < 3 {
			continue
		}
		mounts = append(mounts, Mount{unescape(mount[root]), unescape(mount[point]), system[0], strings.Split(system[2], ",")})
	}
	return mounts
}

// Has reports whether the file system was mounted with an option. For cgroup v1 the controllers are options.
func (m Mount) Has(option string) bool { return slices.Contains(m.Options, option) }

// Dir returns where a directory of the file system can be seen, unless that is outside of what is mounted.
func (m Mount) Dir(of string) (dir string, ok bool) {
	below, ok := strings.CutPrefix(of, strings.TrimSuffix(m.Root, "/"))
	if !ok || below != "" && below[0] != '/' || strings.HasPrefix(below+"/", "/../") {
		return "", false
	}
	return path.Join(m.Point, below), true
}

// unescape undoes what the kernel does to blanks and backslashes in a path: \040.
func unescape(s string) string {
	var b strings.Builder
	for ; s != ""; s = s[1:] {
		if len(s) >= 4 && s[0] == '\\' {
			if n, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				s = s[3:]
				continue
			}
		}
		b.WriteByte(s[0])
	}
	return b.String()
}

// OwnCgroups reads the text of /proc/PID/cgroup (cgroups(7)): of each hierarchy the process's cgroup, by the controllers of the
// hierarchy. Those of version 2 are "".
func OwnCgroups(text string) (cgroups []OwnCgroup) {
	for line := range strings.Lines(text) {
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(f) == 3 {
			cgroups = append(cgroups, OwnCgroup{V2: f[0] == "0", Controllers: strings.Split(f[1], ","), Path: f[2]})
		}
	}
	return cgroups
}

// OwnCgroup is a process's cgroup in one hierarchy.
type OwnCgroup struct {
	V2          bool
	Controllers []string // of version 1
	Path        string   // as our cgroup namespace has it
}
