package tree

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
	"graceful/runner/procfs/proctest"
)

// If a shell starts a job and then executes graceful, the job is a child of graceful, but not a member.
func TestOpen_excludesEarlierChildren(t *testing.T) {
	before := startSleeper(t, &syscall.SysProcAttr{})
	tr := openLevel(t, Subreaper)
	target := startSleeper(t, &syscall.SysProcAttr{Setpgid: true})
	tr.SetTarget(target.Process.Pid)
	waitUntil(t, tr, "the target is not the only member", func() bool {
		return slices.Equal(pidsOf(tr.Members()), []int{target.Process.Pid})
	})
	tr.Signal(unix.SIGTERM)
	tr.Kill()
	endedBy(t, target)
	tr.NoteReaped(target.Process.Pid)
	waitUntil(t, tr, "not empty, with only the earlier child left", func() bool { return tr.Empty(false) })
	checkUnharmed(t, before)
	tr.NoteReaped(before.Process.Pid)
	if slices.Contains(tr.excluded, before.Process.Pid) {
		t.Error("a process that reuses the pid of a reaped child is excluded")
	}
}

// At level Group the members are the processes of the target's group, and Kill kills no other process.
func TestMembers_groupLevel(t *testing.T) {
	tr := openLevel(t, Group)
	if tr.Members() != nil || !tr.Empty(false) {
		t.Error("there are members before there is a target")
	}
	target, inside := startGroup(t)
	outside := startSleeper(t, &syscall.SysProcAttr{Setpgid: true})
	tr.SetTarget(target.Process.Pid)

	both := []int{target.Process.Pid, inside.Process.Pid}
	slices.Sort(both)
	if got := pidsOf(tr.Members()); !slices.Equal(got, both) || tr.Empty(false) {
		t.Errorf("members %v, want %v", got, both)
	}
	found, denied := tr.Kill()
	if len(denied) > 0 {
		t.Errorf("denied: %v", denied)
	}
	for _, p := range found {
		if !slices.Contains(both, p.PID) {
			t.Errorf("killed %+v, which is not a member", p)
		}
	}
	for _, c := range []*exec.Cmd{target, inside} {
		if sig := endedBy(t, c); sig != unix.SIGKILL {
			t.Errorf("ended by %v", sig)
		}
		tr.NoteReaped(c.Process.Pid)
	}
	if !tr.Empty(false) || tr.Members() != nil {
		t.Errorf("not empty: %v", tr.Members())
	}
	checkUnharmed(t, outside)
}

// At level Group, Members omits a zombie that is not reaped yet.
func TestMembers_zombie(t *testing.T) {
	tr := openLevel(t, Group)
	target, inside := startGroup(t)
	tr.SetTarget(target.Process.Pid)
	kill(t, inside)
	waitDead(t, tr.proc, inside.Process.Pid)
	if got := pidsOf(tr.Members()); !slices.Equal(got, []int{target.Process.Pid}) {
		t.Errorf("members %v, want the target alone", got)
	}
}

// Descendants finds the processes below every thread and in every session, whether or not /proc has children files.
func TestDescendants_realTree(t *testing.T) {
	fs, err := procfs.Open()
	if err != nil {
		t.Skip("/proc: ", err)
	}
	root, all := startTree(t)
	below := without(all, root)
	for _, haveChildren := range []bool{fs.HasChildren(), false} {
		fs := procfs.Fake("/proc", haveChildren)
		if got := pidsOf(fs.Descendants(root, nil)); !slices.Equal(got, below) {
			t.Errorf("children files %t: found %v, want %v", haveChildren, got, below)
		}
		if got := fs.Children(root); len(got) != 2 {
			t.Errorf("children files %t: %d children, want 2", haveChildren, len(got))
		}
		// If a child is omitted, its descendants are also omitted.
		if got := fs.Descendants(root, fs.Children(root)[:1]); len(got) != 3 {
			t.Errorf("children files %t: %d without one child, want 3", haveChildren, len(got))
		}
		if !slices.Contains(fs.Children(os.Getpid()), root) {
			t.Errorf("children files %t: our own child is not found", haveChildren)
		}
	}
}

// Children lists a child that /proc hides (hidepid), without a start time.
func TestChildren_hidden(t *testing.T) {
	self := os.Getpid()
	root := proctest.Dir(t,
		proctest.Process{PID: self, PPID: 1, Threads: [][]int{{1100, 1200, 1300}}},
		proctest.Process{PID: 1100, PPID: self})
	tr := &Tree{level: Subreaper, self: self, root: self, proc: procfs.Fake(root, true), excluded: []int{1300}}
	children := tr.Children()
	if got := pidsOf(children); !slices.Equal(got, []int{1100, 1200}) {
		t.Fatalf("children %v", got)
	}
	shown, hidden := children[0], children[1]
	if hidden.Start != 0 || hidden.Dead || hidden.BornBefore(time.Hour) || !shown.BornBefore(time.Hour) {
		t.Errorf("the hidden child is %+v", hidden)
	}
}

// Excluded children do not count as members, until their pids are reused.
func TestEmpty_excludedChildren(t *testing.T) {
	self := os.Getpid()
	tree := func(excluded []int, children ...int) *Tree {
		processes := []proctest.Process{{PID: self, PPID: 1, Threads: [][]int{children}}}
		for _, pid := range children {
			processes = append(processes, proctest.Process{PID: pid, PPID: self, State: "Z"})
		}
		fs := procfs.Fake(proctest.Dir(t, processes...), true)
		return &Tree{level: Subreaper, self: self, root: self, excluded: excluded, proc: fs}
	}
	for _, c := range []struct {
		excluded, children []int
		noChildren         bool // wait(2) finds no child
		want               bool
	}{
		{nil, nil, true, true},
		{nil, []int{1100}, false, false},
		{[]int{1100}, []int{1100}, false, true},
		{[]int{1100}, []int{1100, 1200}, false, false}, // 1200 is a zombie, and counts
		{[]int{1100, 1200}, []int{1200}, false, true},
		{[]int{1100}, nil, true, true},
	} {
		for _, orphaned := range []*orphanSpec{nil, {mark: unusedMark}} {
			tr := tree(c.excluded, c.children...)
			tr.orphans = orphaned
			if got := tr.Empty(c.noChildren); got != c.want {
				t.Errorf("%+v, orphaned %t: empty %t", c, orphaned != nil, got)
			}
		}
	}
	tr := tree([]int{1100}, 1100)
	tr.NoteReaped(1100)
	if tr.Empty(false) {
		t.Error("a child that reuses the pid of a reaped one is excluded")
	}
}

// At level Group, a tree whose target is an unreaped zombie is not empty, and keeps the id of the target's group.
// Otherwise NoteReaped would not recognise the target by that id. After the target is reaped, the tree is empty.
func TestEmpty_unreapedLeader(t *testing.T) {
	tr := openLevel(t, Group)
	c := exec.Command("true")
	if err := c.Start(); err != nil {
		t.Skip(err)
	}
	tr.SetTarget(c.Process.Pid)
	waitDead(t, tr.proc, c.Process.Pid)
	if tr.Empty(false) || tr.targetGroup != c.Process.Pid {
		t.Errorf("empty before the leader is reaped, group %d", tr.targetGroup)
	}
	_ = c.Wait()
	tr.NoteReaped(c.Process.Pid)
	if !tr.Empty(true) {
		t.Error("not empty after the leader is reaped")
	}
}
