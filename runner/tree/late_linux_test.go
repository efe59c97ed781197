package tree

import (
	"os"
	"testing"
	"time"

	"graceful/runner/procfs"
	"graceful/runner/procfs/proctest"
)

// A late scan may have missed members, so Empty returns false. At level Subreaper, Empty nevertheless returns true if
// graceful has no child left.
func TestEmpty_late(t *testing.T) {
	self := os.Getpid()
	root := proctest.Dir(t, proctest.Process{PID: self})
	for _, c := range []struct {
		level      Level
		noChildren bool
		want       bool
	}{{Subreaper, true, true}, {Group, true, false}} {
		tr := &Tree{level: c.level, self: self, root: self, proc: procfs.Fake(root, true), targetGroup: 1300}
		tr.SetScanLimit(time.Now().Add(-time.Second))
		if got := tr.Empty(c.noChildren); got != c.want {
			t.Errorf("late, level %s: empty %t", c.level, got)
		}
		tr.SetScanLimit(time.Time{})
		if !tr.Empty(c.noChildren) {
			t.Errorf("level %s: not empty", c.level)
		}
	}
}

// After the scan limit, Members omits members and IsLate returns true. With a later limit, Members finds these members.
func TestMembers_late(t *testing.T) {
	self := os.Getpid()
	root := proctest.Dir(t, proctest.Process{PID: self, Threads: [][]int{{1100}}}, proctest.Process{PID: 1100, PPID: self})
	tr := &Tree{level: Subreaper, self: self, root: self, proc: procfs.Fake(root, true)}
	tr.SetScanLimit(time.Now().Add(-time.Second))
	if found := tr.Members(); len(found) != 0 || !tr.IsLate() {
		t.Errorf("late: found %v", found)
	}
	tr.SetScanLimit(time.Now().Add(time.Hour))
	if found := tr.Members(); len(found) != 1 || tr.IsLate() {
		t.Errorf("in time: found %v", found)
	}
}
