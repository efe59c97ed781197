package tree

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

const nobodysMark = "TREE_TEST_MARK=nobody's"

// soon is a moment before which everybody is born who is there.
func soon(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano()) + time.Hour
}

// hunt opens a tree of others, or skips the test.
func hunt(t *testing.T, mark string, known []procfs.Identity, since time.Duration) *Tree {
	t.Helper()
	open(t, Subreaper)
	tr, err := OpenOrphaned(mark, known, since)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// Of a tree of which nothing but one process is known, that one is found and what descends from it, and nobody else.
func TestAKnownProcessIsHuntedWithAllThatIsBelowIt(t *testing.T) {
	root, all := grow(t)
	fs := open(t, Subreaper).proc
	branch := fs.Children(root)[0]
	want := append(pidsOf(fs.Descendants(branch, nil)), branch)
	slices.Sort(want)
	p, ok := fs.Read(branch)
	if !ok || len(want) != 3 {
		t.Fatalf("%+v, with those below it %v", p, want)
	}
	other := procfs.Identity{PID: branch, Start: p.Start + 1}
	for name, tr := range map[string]*Tree{
		"another that has its pid": hunt(t, nobodysMark, []procfs.Identity{other}, 0),
		"start time unknown":       hunt(t, nobodysMark, []procfs.Identity{{PID: branch}}, 0),
		"born before":              hunt(t, nobodysMark, []procfs.Identity{p.Identity}, soon(t)),
	} {
		if tr.Members() != nil || !tr.Empty(false) {
			t.Errorf("%s: members %v", name, tr.Members())
		}
		if found, _ := tr.Kill(); found != nil {
			t.Errorf("%s: killed %v", name, found)
		}
		tr.SignalAll(other, unix.SIGKILL)
	}
	tr := hunt(t, nobodysMark, []procfs.Identity{other, p.Identity}, 0)
	if got := pidsOf(tr.Members()); !slices.Equal(got, want) || tr.Empty(false) {
		t.Errorf("members %v, want %v", got, want)
	}
	settles(t, tr, "it is not empty", func() bool { // when a parent dies first, its children are found as ours the next time
		found, denied := tr.Kill()
		for _, p := range found {
			if !slices.Contains(want, p.PID) || len(denied) > 0 {
				t.Fatalf("killed %+v, denied %v", p, denied)
			}
		}
		return tr.Empty(false)
	})
	for _, pid := range all {
		if slices.Contains(want, pid) {
			dies(t, fs, pid)
		} else if !lives(fs, pid) {
			t.Errorf("process %d was killed", pid)
		}
	}
}

// When init's child has died, its own children are init's, and what they descend from is forgotten.
func TestWhatIsBelowTheHuntedIsKilledInTheSamePass(t *testing.T) {
	self := os.Getpid()
	root, below := sleeper(t, nil), sleeper(t, nil)
	pids := []int{root.Process.Pid, below.Process.Pid}
	proc := procfs.Fake(fakeProc(t, fakeProcess{self, 1, "S", [][]int{nil}},
		fakeProcess{pids[0], 1, "S", [][]int{{pids[1]}}}, fakeProcess{pids[1], pids[0], "S", [][]int{nil}}), true)
	start := uint64(pids[0]) // in there
	tr := &Tree{level: Subreaper, self: self, proc: proc, orphaned: &orphanSpec{mark: nobodysMark, known: []procfs.Identity{{PID: pids[0], Start: start}}}}
	found, denied := tr.Kill()
	if slices.Sort(pids); !slices.Equal(pidsOf(found), pids) || denied != nil {
		t.Errorf("killed %v, want %v; denied %v", found, pids, denied)
	}
}

// What has gone to init is known by its environment, in which a variable has its whole value or another one.
func TestWhoCarriesTheMarkIsHunted(t *testing.T) {
	mark := fmt.Sprintf("TREE_TEST_MARK=%d", time.Now().UnixNano())
	name, value, _ := strings.Cut(mark, "=")
	t.Setenv(name, value)
	root, all := grow(t) // our own child, and so none of them
	below := slices.DeleteFunc(slices.Clone(all), func(pid int) bool { return pid == root })
	for _, c := range []struct {
		mark  string
		since time.Duration
		want  []int
	}{{mark, 0, below}, {mark[:len(mark)-1], 0, nil}, {mark + "0", 0, nil}, {mark[1:], 0, nil}, {mark, soon(t), nil}} {
		tr := hunt(t, c.mark, nil, c.since)
		if got := pidsOf(tr.Members()); !slices.Equal(got, c.want) || tr.Empty(false) != (c.want == nil) {
			t.Errorf("%s since %v: members %v, want %v", c.mark, c.since, got, c.want)
		}
	}
}

// Who is born meanwhile to somebody that we start is a member, too: cleanup commands are started by us.
func TestWhatWeStartIsHuntedToo(t *testing.T) {
	tr := hunt(t, nobodysMark, nil, 0)
	root, all := grow(t)
	settles(t, tr, "there are others", func() bool { return slices.Equal(pidsOf(tr.Members()), all) })
	if tr.Empty(false) || tr.Announced() {
		t.Error("it is empty, or all ends are announced")
	}
	tr.SignalAll(tr.Child(root).Identity, unix.SIGKILL)
	for _, pid := range all {
		dies(t, tr.proc, pid)
	}
	settles(t, tr, "it is not empty", func() bool {
		_, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		return tr.Empty(err == unix.ECHILD)
	})
}

// We would be killed with the tree, and nobody would be left to finish the run.
func TestNobodyHuntsATreeThatHeDescendsFrom(t *testing.T) {
	fs := open(t, Subreaper).proc
	for name, pid := range map[string]int{"ourselves": os.Getpid(), "our parent": os.Getppid()} {
		p, ok := fs.Read(pid)
		if !ok {
			t.Logf("%s cannot be seen", name)
			continue
		}
		if _, err := OpenOrphaned(nobodysMark, []procfs.Identity{p.Identity}, 0); err == nil || !strings.Contains(err.Error(), fmt.Sprint(pid)) {
			t.Errorf("%s: %v", name, err)
		}
		for _, c := range []struct {
			id    procfs.Identity
			since time.Duration
		}{{procfs.Identity{PID: pid, Start: p.Start + 1}, 0}, {p.Identity, soon(t)}} {
			if _, err := OpenOrphaned(nobodysMark, []procfs.Identity{c.id}, c.since); err != nil {
				t.Errorf("%s is another process, or is older than the tree: %v", name, err)
			}
		}
	}
	for _, kv := range os.Environ() { // what we were started with, as far as it still is so
		if name, value, _ := strings.Cut(kv, "="); value != "" {
			if v, ok := fs.Environ(os.Getpid(), name); ok && v == value {
				if _, err := OpenOrphaned(kv, nil, 0); err == nil {
					t.Errorf("a mark that is ours, %s", name)
				}
				return
			}
		}
	}
	t.Log("our environment is empty")
}

func TestChildrenThatWereThereBeforeTheRunCountForNothing(t *testing.T) {
	self := os.Getpid()
	tree := func(foreign []int, children ...int) *Tree {
		processes := []fakeProcess{{self, 1, "S", [][]int{children}}}
		for _, pid := range children {
			processes = append(processes, fakeProcess{pid, self, "Z", [][]int{nil}})
		}
		return &Tree{level: Subreaper, self: self, excluded: foreign, proc: procfs.Fake(fakeProc(t, processes...), true)}
	}
	for _, c := range []struct {
		foreign, children []int
		childless         bool // as wait(2) sees it
		want              bool
	}{
		{nil, nil, true, true},
		{nil, []int{1100}, false, false},
		{[]int{1100}, []int{1100}, false, true},
		{[]int{1100}, []int{1100, 1200}, false, false}, // and be it a zombie
		{[]int{1100, 1200}, []int{1200}, false, true},
		{[]int{1100}, nil, true, true},
	} {
		for _, hunted := range []*orphanSpec{nil, {mark: nobodysMark}} {
			tr := tree(c.foreign, c.children...)
			tr.orphaned = hunted
			if got := tr.Empty(c.childless); got != c.want {
				t.Errorf("%+v, hunted %t: empty %t", c, hunted != nil, got)
			}
		}
	}
	tr := tree([]int{1100}, 1100)
	tr.Reaped(1100)
	if tr.Empty(false) {
		t.Error("who has got the id of one that was there before counts for nothing too")
	}
}

// In the middle of execve(2) a process has no environment, or an empty one. Who executes all the time is found there soon.
func TestAProcessThatExecutesHasItsEnvironmentAllTheSame(t *testing.T) {
	fs := procfs.Open()
	script := filepath.Join(t.TempDir(), "again")
	if err := os.WriteFile(script, []byte("exec sh $0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", script)
	c.Env = append(os.Environ(), "EXECUTES=yes")
	for i := range 5000 {
		c.Env = append(c.Env, fmt.Sprintf("MORE%d=", i)) // which takes the kernel its time
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	for range 2000 {
		if v, ok := fs.Environ(c.Process.Pid, "EXECUTES"); !ok || v != "yes" {
			t.Fatalf("it has %q, %t", v, ok)
		}
	}
}
