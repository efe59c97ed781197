package tree

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
	"graceful/runner/procfs/proctest"
)

// Repeated calls of Kill empty a tree with several sessions, whether or not /proc has children files.
func TestKill_emptiesTree(t *testing.T) {
	for _, haveChildren := range []bool{true, false} {
		t.Run(fmt.Sprintf("children files %t", haveChildren), func(t *testing.T) {
			tr, _, err := Open(Subreaper)
			if err != nil {
				t.Skip("no subreaper:", err)
			}
			tr.proc = procfs.Fake("/proc", tr.proc.HasChildren() && haveChildren)
			root, all := startTree(t)
			tr.SetTarget(root)
			if got := pidsOf(tr.Members()); !slices.Equal(got, all) {
				t.Fatalf("members %v, want %v", got, all)
			}
			for deadline := time.Now().Add(patience); !tr.Empty(false); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("left: %v", tr.Members())
				}
				tr.Kill()
				for {
					pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
					if err == unix.ECHILD && tr.Empty(true) {
						return
					}
					if err != nil || pid <= 0 {
						break
					}
					tr.NoteReaped(pid)
				}
			}
		})
	}
}

// One call of Kill kills an orphaned member and its descendants. When that member dies, its children are reparented to
// init, and then graceful cannot identify these children as members.
func TestKill_orphanedDescendants(t *testing.T) {
	self := os.Getpid()
	root, child := startSleeper(t, nil), startSleeper(t, nil)
	pids := []int{root.Process.Pid, child.Process.Pid}
	fs := procfs.Fake(proctest.Dir(t,
		proctest.Process{PID: self, PPID: 1},
		proctest.Process{PID: pids[0], PPID: 1, Threads: [][]int{{pids[1]}}},
		proctest.Process{PID: pids[1], PPID: pids[0]}), true)
	known := []procfs.Identity{{PID: pids[0], Start: uint64(pids[0])}} // in proctest the start time equals the pid
	tr := &Tree{level: Subreaper, self: self, root: self, proc: fs, orphans: &orphanSpec{mark: unusedMark, known: known}}
	found, denied := tr.Kill()
	if slices.Sort(pids); !slices.Equal(pidsOf(found), pids) || denied != nil {
		t.Errorf("killed %v, want %v; denied %v", found, pids, denied)
	}
}

// If graceful was moved into the cgroup of its run by mistake, Kill neither kills the cgroup nor finds graceful.
func TestKill_gracefulInCgroup(t *testing.T) {
	tr := openLevel(t, Subreaper)
	dir := cgroupDir(t, map[string]string{
		"cgroup.procs": fmt.Sprintln(os.Getpid()), "cgroup.kill": "", "cgroup.events": "populated 1\n",
	})
	tr.Confine(dir)
	if found, _ := tr.Kill(); len(found) > 0 || slices.Contains(pidsOf(tr.Members()), os.Getpid()) {
		t.Errorf("graceful is a member; Kill found %v", found)
	}
	if text, _ := os.ReadFile(dir + "/cgroup.kill"); len(text) > 0 {
		t.Error("the cgroup was killed")
	}
}

// KillChildren kills a child, but not a child from before Open. At level Group it kills no child, because a child need
// not be a member.
func TestKillChildren(t *testing.T) {
	before := startSleeper(t, &syscall.SysProcAttr{})
	tr := openLevel(t, Subreaper)
	child := startSleeper(t, &syscall.SysProcAttr{Setpgid: true})
	tr.KillChildren()
	if sig := endedBy(t, child); sig != unix.SIGKILL {
		t.Errorf("the child was ended by %v", sig)
	}
	checkUnharmed(t, before)

	tr = openLevel(t, Group)
	child = startSleeper(t, &syscall.SysProcAttr{Setpgid: true})
	tr.KillChildren()
	checkUnharmed(t, child)
}

// KillBelow kills a process and all its descendants, even those that have left the group. At level Group it kills only
// the group.
func TestKillBelow(t *testing.T) {
	for _, c := range []struct {
		level Level
		all   bool // KillBelow also kills the processes outside of the group
	}{{Subreaper, true}, {Group, false}} {
		t.Run(string(c.level), func(t *testing.T) {
			tr := openLevel(t, c.level)
			root, all := startTree(t)
			outside := slices.DeleteFunc(slices.Clone(all), func(pid int) bool {
				p, ok := tr.proc.Read(pid)
				return !ok || p.Group == root
			})
			if len(outside) == 0 {
				t.Fatal("all processes are in the command's group")
			}
			tr.KillBelow(root)
			for _, pid := range all {
				if c.all || !slices.Contains(outside, pid) {
					waitDead(t, tr.proc, pid)
				} else if !isAlive(tr.proc, pid) {
					t.Errorf("process %d outside of the group was killed", pid)
				}
			}
		})
	}
}
