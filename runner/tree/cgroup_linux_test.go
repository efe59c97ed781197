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
	if pids := tr.cgroupMembers(); !slices.Equal(pids, []int{c.Process.Pid}) || !tr.cgroup.populated() {
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
