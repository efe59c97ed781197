package tree

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// With one of these variables, the test binary acts as a process of a test.
const (
	roleVariable  = "TREE_TEST_ROLE" // sleep, count
	depthVariable = "TREE_TEST"      // how many more generations startTree starts
)

// patience is the maximum time that a test waits for a process.
const patience = time.Minute

func TestMain(m *testing.M) {
	if depth := os.Getenv(depthVariable); depth != "" {
		runTreeProcess(depth)
	}
	switch os.Getenv(roleVariable) {
	case "sleep":
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case "count":
		runCounter()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// roleCommand returns a command that runs the test binary in a role. The caller connects standard input to a pipe. The
// role ends when the test, which holds the other end, ends.
func roleCommand(t *testing.T, role string, attr *syscall.SysProcAttr) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), roleVariable+"="+role)
	c.SysProcAttr = attr
	return c
}

// startSleeper starts a process that waits and has no children. The process ends with the test.
func startSleeper(t *testing.T, attr *syscall.SysProcAttr) *exec.Cmd {
	t.Helper()
	c := roleCommand(t, "sleep", attr)
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	killAfter(t, c)
	return c
}

// startGroup starts the leader of a new process group and another member of the group.
func startGroup(t *testing.T) (leader, other *exec.Cmd) {
	t.Helper()
	leader = startSleeper(t, &syscall.SysProcAttr{Setpgid: true})
	return leader, startSleeper(t, &syscall.SysProcAttr{Setpgid: true, Pgid: leader.Process.Pid})
}

// treeSize is the number of processes of startTree: a root, its two children, and their four children.
const treeSize = 7

// startTree starts a tree of treeSize processes in three generations. It returns the root's pid, and the sorted pids of
// all processes. The processes end with the test.
func startTree(t *testing.T) (root int, pids []int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := startTreeProcess(w, "2", &syscall.SysProcAttr{Setpgid: true})
	w.Close()
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		_ = c.Wait()
		// The pipe ends when the last process has ended.
		_ = r.SetReadDeadline(time.Now().Add(patience))
		_, _ = io.Copy(io.Discard, r)
		r.Close()
	})
	lines := bufio.NewScanner(r)
	for len(pids) < treeSize && lines.Scan() {
		var pid int
		if _, err := fmt.Sscan(lines.Text(), &pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return c.Process.Pid, pids
}

// runTreeProcess is the main function of a process of startTree. The process writes its pid to descriptor 3. Unless
// depth is 0, it starts two children with the next lower depth, one of them from another thread and in a new session.
func runTreeProcess(depth string) {
	pids := os.NewFile(3, "pids")
	fmt.Fprintln(pids, os.Getpid())
	if depth > "0" {
		below := fmt.Sprint(int(depth[0]-'0') - 1)
		startTreeProcess(pids, below, &syscall.SysProcAttr{})
		done := make(chan bool)
		go func() {
			runtime.LockOSThread() // never unlocked, so the thread stays alive and keeps its child
			startTreeProcess(pids, below, &syscall.SysProcAttr{Setsid: true})
			close(done)
			time.Sleep(time.Hour)
		}()
		<-done
	}
	time.Sleep(time.Hour)
}

// startTreeProcess starts a process that runs runTreeProcess with a depth. That process and its descendants write their
// pids to the file pids.
func startTreeProcess(pids *os.File, depth string, attr *syscall.SysProcAttr) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), depthVariable+"="+depth)
	c.ExtraFiles = []*os.File{pids}
	c.SysProcAttr = attr
	if err := c.Start(); err != nil {
		panic(err)
	}
	return c
}

// killAfter kills and reaps a process at the end of the test.
func killAfter(t *testing.T, c *exec.Cmd) {
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
}

// kill sends SIGKILL to a process.
func kill(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// endedBy waits for the end of a process, reaps the process, and returns the signal that ended it. If the process does
// not end within patience, endedBy sends SIGKILL.
func endedBy(t *testing.T, c *exec.Cmd) syscall.Signal {
	t.Helper()
	late := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	defer late.Stop()
	_ = c.Wait()
	return c.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

// checkUnharmed ends a sleeper with SIGTERM. It fails the test if another signal, such as SIGKILL, has already ended
// the sleeper.
func checkUnharmed(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if sig := endedBy(t, c); sig != unix.SIGTERM {
		t.Errorf("process %d was ended by %v", c.Process.Pid, sig)
	}
}

// isAlive reports whether /proc shows a process that is not a zombie.
func isAlive(fs *procfs.FS, pid int) bool {
	p, ok := fs.Read(pid)
	return ok && !p.Dead
}

// waitDead waits until a process is a zombie or gone.
func waitDead(t *testing.T, fs *procfs.FS, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); isAlive(fs, pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is alive", pid)
		}
	}
}

// waitUntil waits until a condition is true. After patience it fails the test, and prints the members of tr after the
// text in otherwise. Meanwhile it reaps the children of the test binary, because orphans of earlier tests are
// reparented to the test binary.
func waitUntil(t *testing.T, tr *Tree, otherwise string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", otherwise, tr.Members())
		}
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err == nil && pid > 0 {
			tr.NoteReaped(pid)
		}
	}
}

// openLevel opens a tree at a level. It skips the test if that fails, or if /proc is missing.
func openLevel(t *testing.T, level Level) *Tree {
	t.Helper()
	tr, _, err := Open(level)
	if err != nil || tr.proc == nil {
		t.Skip("no containment at this level: ", err)
	}
	return tr
}

// pidsOf returns the sorted pids of processes.
func pidsOf(processes []procfs.Process) (pids []int) {
	for _, p := range processes {
		pids = append(pids, p.PID)
	}
	slices.Sort(pids)
	return pids
}

// without returns a copy of pids without one pid.
func without(pids []int, pid int) []int {
	return slices.DeleteFunc(slices.Clone(pids), func(p int) bool { return p == pid })
}
