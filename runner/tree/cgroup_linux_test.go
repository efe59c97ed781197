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

// findCgroup uses the first mount in which graceful can make a cgroup. If there is no such mount, the error describes
// the problem of a mount that contains graceful's own cgroup, if there is one.
func TestFindCgroup_mounts(t *testing.T) {
	procs := fmt.Sprintf("1\n%d\n", os.Getpid())
	good := cgroupDir(t, map[string]string{"cgroup.procs": procs, "cgroup.type": "domain\n", "cgroup.kill": ""})
	root := cgroupDir(t, map[string]string{"cgroup.procs": procs})
	old := cgroupDir(t, map[string]string{"cgroup.procs": procs, "cgroup.type": "domain\n"})
	threaded := cgroupDir(t, map[string]string{
		"cgroup.procs": procs, "cgroup.type": "domain threaded\n", "cgroup.kill": "",
	})
	other := cgroupDir(t, map[string]string{"cgroup.procs": "1\n", "cgroup.type": "domain\n", "cgroup.kill": ""})
	for _, c := range []struct {
		own    string
		mounts []string // each is the root of a mount and its mount point, which begins at the second /
		want   string   // end of the expected path or error
	}{
		{"/", []string{"/" + good}, good + "/graceful-1"},
		{"/", []string{"/" + root}, root + "/graceful-1"},
		{"/", []string{"/" + other, "/" + old, "/" + good, "/" + root}, good + "/graceful-1"},
		{"/", nil, "no cgroup v2 is mounted"},
		{"/", []string{"/" + old}, "cgroup.kill: no such file or directory (Linux has it since 5.14)"},
		{"/", []string{"/" + threaded}, `is of type "domain threaded", and a process can be in none below it`},
		{"/", []string{"/" + other, "/" + old}, "(Linux has it since 5.14)"},
		{"/x", []string{"/y" + good}, "the cgroup v2 at " + good + " does not show our own cgroup (/x)"},
		// findCgroup does not use a directory that another mount hides.
		{"/", []string{"/" + other}, "the cgroup v2 at " + other + " does not show our own cgroup (/)"},
	} {
		var info string
		for _, m := range c.mounts {
			rootField, point, _ := strings.Cut(m[1:], "/")
			info += fmt.Sprintf("41 31 0:38 /%s /%s rw - cgroup2 cgroup2 rw\n", rootField, point)
		}
		got, err := findCgroup(c.own, info, "graceful-1")
		if err != nil {
			got = err.Error()
		}
		if !strings.HasSuffix(got, c.want) {
			t.Errorf("%q in %q: %q, want %q", c.own, info, got, c.want)
		}
	}
}

// cgroupDir makes a directory that looks like a cgroup. files maps file names to contents.
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

// MakeCgroup accepts an existing cgroup, because the graceful that made the cgroup may have been killed. Without
// cgroup.kill, MakeCgroup returns an error and removes the cgroup.
func TestMakeCgroup(t *testing.T) {
	tr := &Tree{}
	if err := tr.MakeCgroup(cgroupDir(t, map[string]string{"cgroup.kill": ""})); err != nil {
		t.Error(err)
	}
	dir := filepath.Join(t.TempDir(), "new") // an ordinary directory has no cgroup.kill
	if err := tr.MakeCgroup(dir); err == nil || !strings.Contains(err.Error(), "cgroup.kill") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is left")
	}
}

// Disband moves the processes out of the cgroup and its descendants, and kills none of them.
func TestDisband_leavesMembersAlive(t *testing.T) {
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
	into, err := os.Open(below)
	if err != nil {
		t.Fatal(err)
	}
	defer into.Close()
	c := startSleeper(t, &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(into.Fd())})
	if pids, _ := tr.cgroupMembers(); !slices.Equal(pids, []int{c.Process.Pid}) || !tr.cgroup.populated() {
		t.Errorf("members of the cgroup: %v", pids)
	}
	if err := tr.Disband(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the cgroup is left")
	}
	checkUnharmed(t, c)
}
