package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestOurOwnCgroupIsFoundInTheList(t *testing.T) {
	for list, want := range map[string]string{
		"0::/\n":                 "/",
		"0::/user.slice/a b:c\n": "/user.slice/a b:c",
		"0::/../other\n":         "/../other", // outside of our cgroup namespace
		"12:pids:/x\n1:name=systemd:/y\n0::/hybrid\n": "/hybrid",
		"12:pids:/x\n10:cpu,cpuacct:/0::/z\n":         "-",
		"":                                            "-",
	} {
		self, ok := ownCgroup(list)
		if !ok {
			self = "-"
		}
		if self != want {
			t.Errorf("%q: %q, want %q", list, self, want)
		}
	}
}

func TestWhereACgroupIsToBeSeen(t *testing.T) {
	const v1 = "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	line := func(root, point string) string {
		return "41 31 0:38 " + root + " " + point + " rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"
	}
	for _, c := range []struct{ self, mountinfo, want string }{
		{"/", line("/", "/sys/fs/cgroup"), "/sys/fs/cgroup"},
		{"/a/b", v1 + line("/", "/sys/fs/cgroup/unified"), "/sys/fs/cgroup/unified/a/b"},
		{"/a", line("/", `/mnt/odd\040place\134\012`), "/mnt/odd place\\\n/a"},
		{"/a", line("/", `/mnt/\04x\9`), `/mnt/\04x\9/a`}, // no escapes
		{"/a/b/c", line("/a/b", "/m"), "/m/c"},
		{"/a/b", line("/a/b", "/m"), "/m"},
		{`/a b/c`, line(`/a\040b`, "/m"), "/m/c"},
		{"/ab", line("/a", "/m"), ""},
		{"/a", line("/a/b", "/m"), ""},
		{"/", line("/..", "/m"), ""}, // mounted outside of our cgroup namespace, whose name there we do not know
		{"/../x", line("/..", "/m"), "/m/x"},
		{"/../x", line("/", "/m"), ""}, // and this way round
		{"/a", v1, ""},
		{"/a", "41 31 0:38 / /m\n- cgroup2\n\n", ""},
	} {
		got := ""
		for _, m := range cgroupMounts(c.mountinfo) {
			got, _ = m.dir(c.self)
		}
		if got != c.want {
			t.Errorf("%q in %q: %q, want %q", c.self, c.mountinfo, got, c.want)
		}
	}
}

// A directory of files as the kernel has them in a cgroup's.
func cgroupDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAMountWhereACgroupCanBeMadeIsTaken(t *testing.T) {
	procs := fmt.Sprintf("1\n%d\n", os.Getpid())
	good := cgroupDir(t, map[string]string{"cgroup.procs": procs, "cgroup.type": "domain\n", "cgroup.kill": ""})
	root := cgroupDir(t, map[string]string{"cgroup.procs": procs})
	old := cgroupDir(t, map[string]string{"cgroup.procs": procs, "cgroup.type": "domain\n"})
	threaded := cgroupDir(t, map[string]string{"cgroup.procs": procs, "cgroup.type": "domain threaded\n", "cgroup.kill": ""})
	other := cgroupDir(t, map[string]string{"cgroup.procs": "1\n", "cgroup.type": "domain\n", "cgroup.kill": ""})
	for _, c := range []struct {
		self   string
		mounts []string
		want   string // a path or an error
	}{
		{"/", []string{"/" + good}, good + "/graceful-1"},
		{"/", []string{"/" + root}, root + "/graceful-1"},
		{"/", []string{"/" + other, "/" + old, "/" + good, "/" + root}, good + "/graceful-1"},
		{"/", nil, "no cgroup v2 is mounted"},
		{"/", []string{"/" + old}, "cgroup.kill: no such file or directory (Linux has it since 5.14)"},
		{"/", []string{"/" + threaded}, `is of type "domain threaded", and a process can be in none below it`},
		{"/", []string{"/" + other, "/" + old}, "(Linux has it since 5.14)"}, // what is wrong where we are
		{"/x", []string{"/y" + good}, "the cgroup v2 at " + good + " does not show our own cgroup (/x)"},
		{"/", []string{"/" + other}, "the cgroup v2 at " + other + " does not show our own cgroup (/)"}, // something lies over it
	} {
		var info string
		for _, m := range c.mounts {
			rootField, point, _ := strings.Cut(m[1:], "/")
			info += fmt.Sprintf("41 31 0:38 /%s /%s rw - cgroup2 cgroup2 rw\n", rootField, point)
		}
		got, err := findCgroup(c.self, info, "graceful-1")
		if err != nil {
			got = err.Error()
		}
		if !strings.HasSuffix(got, c.want) {
			t.Errorf("%q in %q: %q, want %q", c.self, info, got, c.want)
		}
	}
}

// Nobody's mistake makes us kill ourselves.
func TestACgroupThatWeAreInIsNotKilled(t *testing.T) {
	tr, _, err := Open(Subreaper)
	if err != nil || tr.proc == nil {
		t.Skip("no subreaper:", err)
	}
	dir := cgroupDir(t, map[string]string{"cgroup.procs": fmt.Sprintln(os.Getpid()), "cgroup.kill": "", "cgroup.events": "populated 1\n"})
	tr.Confine(dir)
	if found, _ := tr.Kill(); len(found) > 0 || slices.Contains(pidsOf(tr.Members()), os.Getpid()) {
		t.Errorf("we count as members; it found %v", found)
	}
	if text, _ := os.ReadFile(dir + "/cgroup.kill"); len(text) > 0 {
		t.Error("it was killed")
	}
}

// Who makes it a second time goes on where another was killed. One that cannot be killed is not left.
func TestACgroupMayBeThereBefore(t *testing.T) {
	tr := &Tree{}
	if err := tr.MakeCgroup(cgroupDir(t, map[string]string{"cgroup.kill": ""})); err != nil {
		t.Error(err)
	}
	dir := filepath.Join(t.TempDir(), "new") // no cgroup, so that nothing is in it
	if err := tr.MakeCgroup(dir); err == nil || !strings.Contains(err.Error(), "cgroup.kill") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it is left")
	}
}

// Whoever is left in it when it is removed goes on outside.
func TestMembersOfACgroupThatIsDisbandedAreLeftAlone(t *testing.T) {
	dir, err := FindCgroup(fmt.Sprintf("graceful-test-%d", os.Getpid()))
	if err != nil {
		t.Skip("no cgroup: ", err)
	}
	tr, _, err := Open(Subreaper)
	if err != nil {
		t.Skip("no subreaper: ", err)
	}
	if err := tr.MakeCgroup(dir); err != nil {
		t.Fatal(err)
	}
	below := dir + "/below"
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	attr := &syscall.SysProcAttr{}
	done, err := StartIn(below, attr)
	if err != nil {
		t.Fatal(err)
	}
	c := sleeper(t, attr)
	done()
	if pids := tr.confined(); !slices.Equal(pids, []int{c.Process.Pid}) || !tr.cgroup.populated() {
		t.Errorf("in it are %v", pids)
	}
	if err := tr.Disband(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it is left")
	}
	unharmed(t, c)
}
