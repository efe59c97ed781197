package tree

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// The test binary is also the processes of a small tree: TREE_TEST says how many more generations come below.
func TestMain(m *testing.M) {
	if depth := os.Getenv("TREE_TEST"); depth != "" {
		member(depth)
	}
	os.Exit(m.Run())
}

// member tells its pid on descriptor 3 and starts two children, one of them from another thread, and in a session
// of its own.
func member(depth string) {
	tell := os.NewFile(3, "pids")
	fmt.Fprintln(tell, os.Getpid())
	if depth > "0" {
		below := fmt.Sprint(int(depth[0]-'0') - 1)
		startMember(tell, below, &syscall.SysProcAttr{})
		done := make(chan bool)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread is to stay, with its child
			startMember(tell, below, &syscall.SysProcAttr{Setsid: true})
			close(done)
			time.Sleep(time.Hour)
		}()
		<-done
	}
	time.Sleep(time.Hour)
}

func startMember(tell *os.File, depth string, attr *syscall.SysProcAttr) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), "TREE_TEST="+depth)
	c.ExtraFiles = []*os.File{tell}
	c.SysProcAttr = attr
	if err := c.Start(); err != nil {
		panic(err)
	}
	return c
}

// grow starts a tree of seven processes and returns its root's pid and all pids. They end with the test.
func grow(t *testing.T) (root int, pids []int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := startMember(w, "2", &syscall.SysProcAttr{Setpgid: true})
	w.Close()
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		_ = c.Wait()
		// The pipe ends when the last of them has.
		_ = r.SetReadDeadline(time.Now().Add(time.Minute))
		_, _ = io.Copy(io.Discard, r)
		r.Close()
	})
	lines := bufio.NewScanner(r)
	for len(pids) < 7 && lines.Scan() {
		var pid int
		if _, err := fmt.Sscan(lines.Text(), &pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return c.Process.Pid, pids
}

func pidsOf(processes []procfs.Process) (pids []int) {
	for _, p := range processes {
		pids = append(pids, p.PID)
	}
	slices.Sort(pids)
	return pids
}

// Both ways of looking find the same, below every thread and in every session.
func TestDescendantsAreFoundWithAndWithoutChildrenFiles(t *testing.T) {
	fs := procfs.Open()
	if fs == nil {
		t.Skip("/proc is missing")
	}
	root, all := grow(t)
	below := slices.DeleteFunc(slices.Clone(all), func(pid int) bool { return pid == root })
	for _, haveChildren := range []bool{fs.HasChildren(), false} {
		fs := procfs.Fake("/proc", haveChildren)
		if got := pidsOf(fs.Descendants(root, nil)); !slices.Equal(got, below) {
			t.Errorf("children files %t: found %v, want %v", haveChildren, got, below)
		}
		if got := fs.Children(root); len(got) != 2 {
			t.Errorf("children files %t: %d children, want 2", haveChildren, len(got))
		}
		// What is left out is left out with all that is below it.
		if got := fs.Descendants(root, fs.Children(root)[:1]); len(got) != 3 {
			t.Errorf("children files %t: %d without one child, want 3", haveChildren, len(got))
		}
		if !slices.Contains(fs.Children(os.Getpid()), root) {
			t.Errorf("children files %t: our own child is not found", haveChildren)
		}
	}
}

func TestTheTreeIsKilledAndThenEmpty(t *testing.T) {
	for _, haveChildren := range []bool{true, false} {
		t.Run(fmt.Sprintf("children files %t", haveChildren), func(t *testing.T) {
			tr, _, err := Open(Subreaper)
			if err != nil {
				t.Skip("no subreaper:", err)
			}
			tr.proc = procfs.Fake("/proc", tr.proc.HasChildren() && haveChildren)
			root, all := grow(t)
			tr.Started(root)
			if got := pidsOf(tr.Members()); !slices.Equal(got, all) {
				t.Fatalf("members %v, want %v", got, all)
			}
			for deadline := time.Now().Add(time.Minute); !tr.Empty(false); {
				if time.Now().After(deadline) {
					t.Fatalf("left: %v", tr.Members())
				}
				tr.Kill()
				for {
					pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
					if err != nil || pid <= 0 {
						if err == unix.ECHILD && tr.Empty(true) {
							return
						}
						break
					}
					tr.Reaped(pid)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}

// A process whose pid has been given away since we saw it is not signalled.
func TestAReusedPIDIsNotSignalled(t *testing.T) {
	tr, _, err := Open(Group)
	if err != nil || tr.proc == nil {
		t.Skip("/proc is missing")
	}
	root, _ := grow(t)
	p, ok := tr.proc.Read(root)
	if !ok {
		t.Fatal("our own child cannot be read")
	}
	p.PPID = 1 // not our child, so that the look before the signal counts
	p.Start--  // and its pid was somebody else's
	if err := tr.signal(p, unix.SIGKILL); err != unix.ESRCH {
		t.Errorf("error %v, want ESRCH", err)
	}
	if now, ok := tr.proc.Read(root); !ok || now.Dead {
		t.Error("a stranger was killed")
	}
}

func TestAProcThatIsNotOursIsNotBelieved(t *testing.T) {
	if procfs.OpenAt(filepath.Join(t.TempDir(), "none")) != nil {
		t.Error("a missing /proc is believed")
	}
	self := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		link, nspid string
		want        bool
	}{
		{self, self, true},
		{"1", self, false},            // /proc/self is somebody else
		{self, "777\t" + self, false}, // seen from outside of our namespace
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, c.link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(c.link, filepath.Join(root, "self")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "self/status"), []byte("Name:\tx\nNSpid:\t"+c.nspid+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := procfs.OpenAt(root) != nil; got != c.want {
			t.Errorf("%+v: believed: %t", c, got)
		}
	}
}

// A group whose leader is a zombie that we have not reaped is not empty, or the next signal to it would go to
// group 0: our own.
func TestAGroupIsNotEmptyBeforeItsLeaderIsReaped(t *testing.T) {
	tr, _, err := Open(Group)
	if err != nil || tr.proc == nil {
		t.Skip("/proc is missing")
	}
	c := exec.Command("true")
	if err := c.Start(); err != nil {
		t.Skip(err)
	}
	tr.Started(c.Process.Pid)
	for p, ok := tr.proc.Read(c.Process.Pid); ok && !p.Dead; p, ok = tr.proc.Read(c.Process.Pid) {
		time.Sleep(time.Millisecond)
	}
	if tr.Empty(false) || tr.group != c.Process.Pid {
		t.Errorf("it counts as empty, the group is %d", tr.group)
	}
	_ = c.Wait()
	tr.Reaped(c.Process.Pid)
	if !tr.Empty(true) {
		t.Error("it is not empty when the leader has been reaped")
	}
}
