package procfs

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"graceful/runner/procfs/proctest"
)

// Open refuses a missing /proc, and one that shows another PID namespace.
func TestOpen_foreignProc(t *testing.T) {
	if fs, err := openAt(openFake(filepath.Join(t.TempDir(), "none"))); fs != nil || err == nil {
		t.Error("openAt accepts a missing /proc")
	}
	self := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		link, nspid string
		want        bool
	}{
		{self, self, true},
		{"1", self, false},            // /proc/self is another process
		{self, "777\t" + self, false}, // mounted in an outer PID namespace
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, c.link), 0o755); err != nil {
			t.Fatal(err)
		}
		writeSelf(t, root, c.link, "Name:\tx\nNSpid:\t"+c.nspid+"\n")
		if fs, err := openAt(openFake(root)); (fs != nil) != c.want || (err == nil) != c.want {
			t.Errorf("%+v: accepted: %t, %v", c, fs != nil, err)
		}
	}
}

// Open also succeeds on a kernel without children files. HasChildren then returns false.
func TestOpen_childrenFiles(t *testing.T) {
	for _, have := range []bool{true, false} {
		self := proctest.Process{PID: os.Getpid(), PPID: 1}
		root := proctest.Dir(t, self)
		writeSelf(t, root, strconv.Itoa(self.PID), "")
		if !have {
			if err := os.Remove(self.ChildrenFile(root, 0)); err != nil {
				t.Fatal(err)
			}
		}
		fs, err := openAt(openFake(root))
		if fs == nil || fs.HasChildren() != have {
			t.Errorf("children files %t: openAt returns %+v, %v", have, fs, err)
		}
	}
}

// A nil *FS, which stands for a missing /proc, shows no process.
func TestFS_nil(t *testing.T) {
	var fs *FS
	self := os.Getpid()
	_, read := fs.Read(self)
	_, set := fs.Environ(self, "PATH")
	if read || set || fs.HasChildren() || fs.RunsOwnExecutable(self) || fs.Ignores(self, 1) {
		t.Errorf("read %t, variable %t, children %t, executable %t, ignores %t",
			read, set, fs.HasChildren(), fs.RunsOwnExecutable(self), fs.Ignores(self, 1))
	}
	if n := len(fs.All()) + len(fs.Children(1)) + len(fs.Descendants(1, nil)); n != 0 {
		t.Errorf("%d processes", n)
	}
}

// Descendants finds the children of every thread, and omits dead processes. Without children files, it reads the
// parents of all processes first. It then also finds the child of a process that has become a zombie meanwhile.
func TestDescendants_threadsAndZombies(t *testing.T) {
	root := proctest.Dir(t,
		proctest.Process{PID: 1000, PPID: 1, Threads: [][]int{{1100}, {1200, 1300}, nil}},
		proctest.Process{PID: 1100, PPID: 1000},
		// The child of this process was not reparented yet when the parents were read.
		proctest.Process{PID: 1200, PPID: 1000, State: "Z", Threads: [][]int{{1210}}},
		// Only the first thread of this process has ended.
		proctest.Process{PID: 1300, PPID: 1000, State: "Z", Threads: [][]int{{1310}, nil}},
		proctest.Process{PID: 1210, PPID: 1200, State: "R"},
		// These processes form a cycle, because pids were reused between the reads.
		proctest.Process{PID: 1310, PPID: 1300, State: "D", Threads: [][]int{{1000}}},
		proctest.Process{PID: 2000, PPID: 1},
	)
	for _, haveChildren := range []bool{true, false} {
		fs := Fake(root, haveChildren)
		want, without := []int{1100, 1210, 1300, 1310}, []int{1100, 1210}
		if haveChildren {
			want, without = []int{1100, 1300, 1310}, []int{1100}
		}
		if got := descendants(fs, 1000, nil); !slices.Equal(got, want) {
			t.Errorf("children files %t: found %v, want %v", haveChildren, got, want)
		}
		if got, want := descendants(fs, 1000, []int{1300}), without; !slices.Equal(got, want) {
			t.Errorf("children files %t: without 1300 found %v, want %v", haveChildren, got, want)
		}
	}
}

// descendants returns the sorted pids of Descendants.
func descendants(fs *FS, root int, without []int) (pids []int) {
	for _, p := range fs.Descendants(root, without) {
		pids = append(pids, p.PID)
	}
	slices.Sort(pids)
	return pids
}

// writeSelf makes the link self, and the status file to which it leads.
func writeSelf(t *testing.T, root, link, status string) {
	t.Helper()
	if err := os.Symlink(link, filepath.Join(root, "self")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "self/status"), []byte(status), 0o644); err != nil {
		t.Fatal(err)
	}
}
