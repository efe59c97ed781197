package procfs

import (
	"path"
	"slices"
	"strings"
)

// Mount is a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	Root    string   // directory of the file system that is visible at Point
	Point   string   // directory on which the file system is mounted
	Type    string   // the type of the file system, for example cgroup2
	Options []string // options of the file system, not of the mount point
}

// ParseMounts parses the text of a mountinfo file. It omits invalid lines.
func ParseMounts(mountinfo string) (mounts []Mount) {
	const root, point = 3, 4
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		mount, system := strings.Fields(before), strings.Fields(after)
		if len(mount) <= point+1 || len(system) < 3 {
			continue
		}
		options := strings.Split(system[2], ",")
		mounts = append(mounts, Mount{unescape(mount[root]), unescape(mount[point]), system[0], options})
	}
	return mounts
}

// Has reports whether the file system is mounted with an option. The options of a cgroup v1 include its controllers.
func (m Mount) Has(option string) bool { return slices.Contains(m.Options, option) }

// Dir returns the path at which a directory of the file system is visible: Point, or a path below Point. inside is the
// path of the directory in the file system. ok is false if the directory is neither Root nor below Root.
func (m Mount) Dir(inside string) (dir string, ok bool) {
	below, ok := strings.CutPrefix(inside, strings.TrimSuffix(m.Root, "/"))
	if !ok || below != "" && below[0] != '/' || strings.HasPrefix(below+"/", "/../") {
		return "", false
	}
	return path.Join(m.Point, below), true
}

// unescape replaces the octal escapes of white space, # and backslashes in a path (proc_pid_mountinfo(5)).
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\043`, "#", `\134`, `\`).Replace

// OwnCgroup is the cgroup of a process in one hierarchy.
type OwnCgroup struct {
	V2          bool
	Controllers []string // controllers of a cgroup v1; the only element of a cgroup v2 is ""
	Path        string   // path in the cgroup namespace of the reading process
}

// OwnCgroups parses the text of /proc/PID/cgroup (cgroups(7)). It returns one cgroup for each hierarchy.
func OwnCgroups(text string) (cgroups []OwnCgroup) {
	for line := range strings.Lines(text) {
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(f) == 3 {
			cgroups = append(cgroups, OwnCgroup{V2: f[0] == "0", Controllers: strings.Split(f[1], ","), Path: f[2]})
		}
	}
	return cgroups
}
