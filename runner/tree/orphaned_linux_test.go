package tree

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// unusedMark is a mark (NAME=value) that no process has in its environment.
const unusedMark = "TREE_TEST_MARK=unused"

// A tree of OpenOrphaned contains a known process and its descendants, but not the parent and the siblings of that
// process. If the identity differs, or if the process was born before the run, the tree is empty, and nothing is
// killed.
func TestOpenOrphaned_knownProcess(t *testing.T) {
	root, all := startTree(t)
	fs := openLevel(t, Subreaper).proc
	branch := fs.Children(root)[0]
	want := append(pidsOf(fs.Descendants(branch, nil)), branch)
	slices.Sort(want)
	p, ok := fs.Read(branch)
	if !ok || len(want) != 3 {
		t.Fatalf("%+v, with its descendants %v", p, want)
	}
	other := procfs.Identity{PID: branch, Start: p.Start + 1}
	for name, tr := range map[string]*Tree{
		"another process with its pid": openOrphaned(t, unusedMark, []procfs.Identity{other}, 0),
		"start time unknown":           openOrphaned(t, unusedMark, []procfs.Identity{{PID: branch}}, 0),
		"born before the run":          openOrphaned(t, unusedMark, []procfs.Identity{p.Identity}, inOneHour(t)),
	} {
		if tr.Members() != nil || !tr.Empty(false) {
			t.Errorf("%s: members %v", name, tr.Members())
		}
		if found, _ := tr.Kill(); found != nil {
			t.Errorf("%s: killed %v", name, found)
		}
		tr.SignalAll(other, unix.SIGKILL)
	}
	tr := openOrphaned(t, unusedMark, []procfs.Identity{other, p.Identity}, 0)
	if got := pidsOf(tr.Members()); !slices.Equal(got, want) || tr.Empty(false) {
		t.Errorf("members %v, want %v", got, want)
	}
	// If a parent dies before its children, the children are reparented to the test. Then Kill finds them there.
	waitUntil(t, tr, "not empty", func() bool {
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
			waitDead(t, fs, pid)
		} else if !isAlive(fs, pid) {
			t.Errorf("process %d was killed", pid)
		}
	}
}

// A tree of OpenOrphaned contains the processes with the mark in their environment. The whole name and value must
// match, and the processes must not be born before the run.
func TestOpenOrphaned_mark(t *testing.T) {
	mark := fmt.Sprintf("TREE_TEST_MARK=%d", time.Now().UnixNano())
	name, value, _ := strings.Cut(mark, "=")
	t.Setenv(name, value)
	root, all := startTree(t) // the root is a child of the test, so OpenOrphaned excludes it
	below := without(all, root)
	for _, c := range []struct {
		mark  string
		since time.Duration
		want  []int
	}{
		{mark, 0, below},
		{mark[:len(mark)-1], 0, nil},
		{mark + "0", 0, nil},
		{mark[1:], 0, nil},
		{mark, inOneHour(t), nil},
	} {
		tr := openOrphaned(t, c.mark, nil, c.since)
		if got := pidsOf(tr.Members()); !slices.Equal(got, c.want) || tr.Empty(false) != (c.want == nil) {
			t.Errorf("%s since %v: members %v, want %v", c.mark, c.since, got, c.want)
		}
	}
}

// A process that graceful itself starts after OpenOrphaned, for example a cleanup command, is a member with its
// descendants.
func TestOpenOrphaned_ownChildren(t *testing.T) {
	tr := openOrphaned(t, unusedMark, nil, 0)
	root, all := startTree(t)
	waitUntil(t, tr, "other members", func() bool { return slices.Equal(pidsOf(tr.Members()), all) })
	if tr.Empty(false) || tr.ReportsEnds() {
		t.Error("empty, or announced")
	}
	tr.SignalAll(tr.Child(root).Identity, unix.SIGKILL)
	for _, pid := range all {
		waitDead(t, tr.proc, pid)
	}
	waitUntil(t, tr, "not empty", func() bool {
		_, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		return tr.Empty(err == unix.ECHILD)
	})
}

// If the test or its parent is a member of the run, OpenOrphaned returns an error, because graceful would be killed
// with the run. It returns none if the identity differs, or if the process was born before the run.
func TestOpenOrphaned_refusesOwnAncestors(t *testing.T) {
	fs := openLevel(t, Subreaper).proc
	for name, pid := range map[string]int{"the test": os.Getpid(), "its parent": os.Getppid()} {
		p, ok := fs.Read(pid)
		if !ok {
			t.Logf("%s is hidden", name)
			continue
		}
		_, err := OpenOrphaned(unusedMark, []procfs.Identity{p.Identity}, 0)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(pid)) {
			t.Errorf("%s: %v", name, err)
		}
		for _, c := range []struct {
			id    procfs.Identity
			since time.Duration
		}{{procfs.Identity{PID: pid, Start: p.Start + 1}, 0}, {p.Identity, inOneHour(t)}} {
			if _, err := OpenOrphaned(unusedMark, []procfs.Identity{c.id}, c.since); err != nil {
				t.Errorf("%s is another process, or is older than the run: %v", name, err)
			}
		}
	}
	for _, kv := range os.Environ() { // use one variable that was set when the test started, and has not changed
		if name, value, _ := strings.Cut(kv, "="); value != "" {
			if v, ok := fs.Environ(os.Getpid(), name); ok && v == value {
				if _, err := OpenOrphaned(kv, nil, 0); err == nil {
					t.Errorf("accepts a mark of the test's own environment, %s", name)
				}
				return
			}
		}
	}
	t.Log("the environment is empty")
}

// openOrphaned returns the tree of OpenOrphaned. It skips the test if level Subreaper or /proc is missing.
func openOrphaned(t *testing.T, mark string, known []procfs.Identity, since time.Duration) *Tree {
	t.Helper()
	openLevel(t, Subreaper)
	tr, err := OpenOrphaned(mark, known, since)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// inOneHour returns a time since boot that is later than the births of all present processes.
func inOneHour(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano()) + time.Hour
}
