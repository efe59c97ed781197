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

// A cgroup that exists is used: a graceful process that made it was killed. A cgroup that cannot be killed is removed.
func TestMakeCgroup(t *testing.T) {
	tr := &Tree{}
	if err := tr.MakeCgroup(cgroupDir(t, map[string]string{"cgroup.kill": ""})); err != nil {
		t.Error(err)
	}
	dir := filepath.Join(t.TempDir(), "new") // an ordinary directory, so that it has no cgroup.kill
	if err := tr.MakeCgroup(dir); err == nil || !strings.Contains(err.Error(), "cgroup.kill") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is left")
	}
}

// A process that is still in the cgroup, or in one below it, lives on outside of it.
func TestDisbandLeavesMembersAlive(t *testing.T) {
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
	if pids := tr.cgroupMembers(); !slices.Equal(pids, []int{c.Process.Pid}) || !tr.cgroup.populated() {
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
