package procfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Within lists the processes of this PID namespace by their pids in it. It finds none in a namespace that does not
// exist, and none without /proc.
func TestWithin(t *testing.T) {
	fs, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	pid := os.Getpid()
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || fs == nil {
		t.Skip("there is no /proc of this PID namespace")
	}
	if found, _ := fs.Within(own); found[pid].PID != pid || found[pid].Start != StartOf(pid) {
		t.Errorf("this process is not in it: %+v", found[pid])
	}
	if found, _ := fs.Within("pid:[1]"); len(found) > 0 {
		t.Errorf("in a namespace that does not exist: %v", found)
	}
	if found, hidden := (*FS)(nil).Within(own); len(found) > 0 || hidden || (*FS)(nil).SeesAll() {
		t.Errorf("without /proc: %v, %t", found, hidden)
	}
}

// Holders lists the processes that have a file open, and no process that has another file of the same name open.
func TestHolders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.ledger")
	var pids []int
	for _, path := range []string{file, filepath.Join(t.TempDir(), "a.ledger")} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		c := exec.Command("sleep", "1000")
		c.Stdin = f
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
		pids = append(pids, c.Process.Pid)
	}
	var status unix.Stat_t
	if err := unix.Stat(file, &status); err != nil {
		t.Fatal(err)
	}
	fs, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	found := fs.Holders("a.ledger", status)
	if len(found) != 1 || found[0].PID != pids[0] {
		t.Errorf("%+v, want process %d", found, pids[0])
	}
	if found := fs.Holders("b.ledger", status); len(found) > 0 {
		t.Errorf("%+v have a file of another name", found)
	}
}
