package procfs

import "testing"

// OwnCgroups finds the cgroup v2 among the hierarchies of version 1.
func TestOwnCgroups(t *testing.T) {
	for list, want := range map[string]string{
		"0::/\n":                 "/",
		"0::/user.slice/a b:c\n": "/user.slice/a b:c",
		"0::/../other\n":         "/../other", // outside of this cgroup namespace
		"12:pids:/x\n1:name=systemd:/y\n0::/hybrid\n": "/hybrid",
		"12:pids:/x\n10:cpu,cpuacct:/0::/z\n":         "-",
		"":                                            "-",
	} {
		self := "-"
		for _, c := range OwnCgroups(list) {
			if c.V2 {
				self = c.Path
			}
		}
		if self != want {
			t.Errorf("%q: %q, want %q", list, self, want)
		}
	}
}

// Dir finds a directory at any mount point, with escapes, if the mounted part of the file system contains the
// directory.
func TestMountDir(t *testing.T) {
	const v1 = "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	line := func(root, point string) string {
		return "41 31 0:38 " + root + " " + point + " rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"
	}
	for _, c := range []struct{ self, mountinfo, want string }{
		{"/", line("/", "/sys/fs/cgroup"), "/sys/fs/cgroup"},
		{"/a/b", v1 + line("/", "/sys/fs/cgroup/unified"), "/sys/fs/cgroup/unified/a/b"},
		{"/a", line("/", `/mnt/odd\040place\134\012`), "/mnt/odd place\\\n/a"},
		{"/a", line("/", `/mnt/\04x\9`), `/mnt/\04x\9/a`}, // not escapes
		{"/a/b/c", line("/a/b", "/m"), "/m/c"},
		{"/a/b", line("/a/b", "/m"), "/m"},
		{`/a b/c`, line(`/a\040b`, "/m"), "/m/c"},
		{"/ab", line("/a", "/m"), ""},
		{"/a", line("/a/b", "/m"), ""},
		{"/", line("/..", "/m"), ""}, // the mount shows the parent of "/", in which the name of "/" is unknown
		{"/../x", line("/..", "/m"), "/m/x"},
		{"/../x", line("/", "/m"), ""}, // the cgroup is not below the root of the mount
		{"/a", v1, ""},
		{"/a", "41 31 0:38 / /m\n- cgroup2\n\n", ""},
	} {
		got := ""
		for _, m := range ParseMounts(c.mountinfo) {
			if m.Type == "cgroup2" {
				got, _ = m.Dir(c.self)
			}
		}
		if got != c.want {
			t.Errorf("%q in %q: %q, want %q", c.self, c.mountinfo, got, c.want)
		}
	}
}
