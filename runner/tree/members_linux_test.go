package tree

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// sleeper starts a process without children. It ends with the test, however that ends.
func sleeper(t *testing.T, attr *syscall.SysProcAttr) *exec.Cmd {
	t.Helper()
	c := role(t, "sleep", attr)
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c
}

// role is a process that plays one of the roles below. It needs a pipe to read from, which closes when we are gone.
func role(t *testing.T, name string, attr *syscall.SysProcAttr) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), "TREE_TEST_ROLE="+name)
	c.SysProcAttr = attr
	return c
}

func init() {
	switch os.Getenv("TREE_TEST_ROLE") {
	case "sleep":
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case "count":
		count()
		os.Exit(0)
	}
}

// endedBy waits for the end of a sleeper and tells the signal that it died of: KILL when nothing else came.
func endedBy(t *testing.T, c *exec.Cmd) syscall.Signal {
	t.Helper()
	late := time.AfterFunc(time.Minute, func() { _ = c.Process.Kill() })
	defer late.Stop()
	_ = c.Wait()
	return c.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

// unharmed ends a sleeper with SIGTERM. SIGKILL, had it been sent before, would have been first.
func unharmed(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if sig := endedBy(t, c); sig != unix.SIGTERM {
		t.Errorf("process %d was ended by %v", c.Process.Pid, sig)
	}
}

// dies waits until a process has ended; that it can be reaped does not matter.
func dies(t *testing.T, fs *procfs.FS, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if p, ok := fs.Read(pid); !ok || p.Dead {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives", pid)
		}
	}
}

// settles waits until something is so. Orphans of an earlier test, which become ours when they die, are reaped.
func settles(t *testing.T, tr *Tree, otherwise string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", otherwise, tr.Members())
		}
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err == nil && pid > 0 {
			tr.Reaped(pid)
		}
	}
}

func lives(fs *procfs.FS, pid int) bool {
	p, ok := fs.Read(pid)
	return ok && !p.Dead
}

// open prepares containment at a level, or skips the test.
func open(t *testing.T, level Level) *Tree {
	t.Helper()
	tr, _, err := Open(level)
	if err != nil || tr.proc == nil {
		t.Skip("no containment at this level: ", err)
	}
	return tr
}

func TestAtTheGroupLevelTheTreeIsTheTargetsGroup(t *testing.T) {
	tr := open(t, Group)
	if tr.Members() != nil || !tr.Empty(false) {
		t.Error("there are members before there is a target")
	}
	target := sleeper(t, &syscall.SysProcAttr{Setpgid: true})
	with := sleeper(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
	without := sleeper(t, &syscall.SysProcAttr{Setpgid: true})
	tr.Started(target.Process.Pid)

	both := []int{target.Process.Pid, with.Process.Pid}
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
			t.Errorf("killed a stranger: %+v", p)
		}
	}
	for _, c := range []*exec.Cmd{target, with} {
		if sig := endedBy(t, c); sig != unix.SIGKILL {
			t.Errorf("ended by %v", sig)
		}
		tr.Reaped(c.Process.Pid)
	}
	if !tr.Empty(false) || tr.Members() != nil {
		t.Errorf("it is not empty: %v", tr.Members())
	}
	unharmed(t, without)
}

// The dead are nobody, as long as they wait to be reaped.
func TestZombiesAreNoMembers(t *testing.T) {
	tr := open(t, Group)
	target := sleeper(t, &syscall.SysProcAttr{Setpgid: true})
	with := sleeper(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
	tr.Started(target.Process.Pid)
	if err := with.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	dies(t, tr.proc, with.Process.Pid)
	if got := pidsOf(tr.Members()); !slices.Equal(got, []int{target.Process.Pid}) {
		t.Errorf("members %v, want the target alone", got)
	}
}

// As soon as the target has been reaped its id may be a stranger's, and its group is one only as long as somebody
// is in it: from then on its members are signalled one by one.
func TestTheGroupIsSignalledUntilTheTargetIsReaped(t *testing.T) {
	tr := open(t, Group)
	target := sleeper(t, &syscall.SysProcAttr{Setpgid: true})
	first := sleeper(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
	second := sleeper(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
	tr.Started(target.Process.Pid)

	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	endedBy(t, first)
	tr.Reaped(first.Process.Pid) // nobody's id but its own
	if err := tr.SignalGroup(0); err != nil {
		t.Error(err)
	}
	if err := target.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	endedBy(t, target)
	tr.Reaped(target.Process.Pid)
	if err := tr.SignalGroup(unix.SIGUSR1); err != nil {
		t.Error(err)
	}
	tr.Signal(unix.SIGTERM)
	if sig := endedBy(t, second); sig != unix.SIGTERM {
		t.Errorf("the last member was ended by %v: not by the one signal that was for it", sig)
	}
}

func TestATargetThatLeftItsGroupIsSignalledAllTheSame(t *testing.T) {
	tr := open(t, Group)
	target := sleeper(t, &syscall.SysProcAttr{}) // in our group: it leads none
	tr.Started(target.Process.Pid)
	if err := tr.SignalGroup(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if sig := endedBy(t, target); sig != unix.SIGTERM {
		t.Errorf("ended by %v", sig)
	}
}

func TestThatATargetIsGoneIsNoError(t *testing.T) {
	for err, want := range map[error]error{unix.ESRCH: nil, unix.EPERM: unix.EPERM, nil: nil} {
		if got := ignoreGone(err); got != want {
			t.Errorf("%v is taken as %v", err, got)
		}
	}
}

// A shell that starts a job and then becomes us with exec leaves us a child that is none of the run's.
func TestWhatWasThereBeforeTheRunIsLeftAlone(t *testing.T) {
	before := sleeper(t, &syscall.SysProcAttr{})
	tr := open(t, Subreaper)
	target := sleeper(t, &syscall.SysProcAttr{Setpgid: true})
	tr.Started(target.Process.Pid)
	settles(t, tr, "the target is not the only member", func() bool {
		return slices.Equal(pidsOf(tr.Members()), []int{target.Process.Pid})
	})
	tr.Signal(unix.SIGTERM)
	tr.Kill()
	endedBy(t, target)
	tr.Reaped(target.Process.Pid)
	settles(t, tr, "it is not empty, with nobody left but who was there before", func() bool { return tr.Empty(false) })
	unharmed(t, before)
	tr.Reaped(before.Process.Pid)
	if slices.Contains(tr.excluded, before.Process.Pid) {
		t.Error("whoever gets its pid next would be left alone too")
	}
}

func TestAStrikeIsForOurOwnChildrenOfThisRun(t *testing.T) {
	before := sleeper(t, &syscall.SysProcAttr{})
	tr := open(t, Subreaper)
	child := sleeper(t, &syscall.SysProcAttr{Setpgid: true})
	tr.KillChildren()
	if sig := endedBy(t, child); sig != unix.SIGKILL {
		t.Errorf("our child was ended by %v", sig)
	}
	unharmed(t, before)

	tr = open(t, Group) // where what is our child need not be the run's
	child = sleeper(t, &syscall.SysProcAttr{Setpgid: true})
	tr.KillChildren()
	unharmed(t, child)
}

// What a cleanup command has started goes with it, wherever it has moved to; its children are still to be found
// below it when it is killed.
func TestACommandIsKilledWithAllThatIsBelowIt(t *testing.T) {
	for _, c := range []struct {
		level Level
		all   bool
	}{{Subreaper, true}, {Group, false}} {
		t.Run(string(c.level), func(t *testing.T) {
			tr := open(t, c.level)
			root, all := grow(t)
			sessions := slices.DeleteFunc(slices.Clone(all), func(pid int) bool {
				p, ok := tr.proc.Read(pid)
				return !ok || p.Group == root
			})
			if len(sessions) == 0 {
				t.Fatal("everybody is in the command's group")
			}
			tr.KillBelow(root)
			for _, pid := range all {
				if c.all || !slices.Contains(sessions, pid) {
					dies(t, tr.proc, pid)
				} else if !lives(tr.proc, pid) {
					t.Errorf("process %d outside of the group was killed", pid)
				}
			}
		})
	}
}

// fakeProcess is a process as proc(5) shows it.
type fakeProcess struct {
	pid, parent int
	state       string
	threads     [][]int // of which each has children
}

func fakeProc(t *testing.T, processes ...fakeProcess) string {
	t.Helper()
	root := t.TempDir()
	for _, p := range processes {
		p.show(t, root)
	}
	return root
}

func (p fakeProcess) show(t *testing.T, root string) {
	write := func(path, text string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
	write(fmt.Sprintf("%d/stat", p.pid), fmt.Sprintf("%d (p) %s %d 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 %d 0 %d 0",
		p.pid, p.state, p.parent, len(p.threads), p.pid))
	for i := range p.threads {
		write(fmt.Sprintf("%d/task/%d/children", p.pid, p.pid+i), p.list(i))
	}
}

// list is a thread's children file.
func (p fakeProcess) list(thread int) string {
	return strings.Trim(fmt.Sprint(p.threads[thread]), "[]")
}

func TestDescendantsOfEveryThreadAndOfTheDead(t *testing.T) {
	root := fakeProc(t,
		fakeProcess{1000, 1, "S", [][]int{{1100}, {1200, 1300}, nil}},
		fakeProcess{1100, 1000, "S", [][]int{nil}},
		fakeProcess{1200, 1000, "Z", [][]int{{1210}}},      // dead, with a child that has not been handed on yet
		fakeProcess{1300, 1000, "Z", [][]int{{1310}, nil}}, // its first thread alone has ended
		fakeProcess{1210, 1200, "R", [][]int{nil}},
		fakeProcess{1310, 1300, "D", [][]int{{1000}}}, // cannot be: we looked while pids were given away
		fakeProcess{2000, 1, "S", [][]int{nil}},
	)
	for _, haveChildren := range []bool{true, false} {
		fs := procfs.Fake(root, haveChildren)
		if got, want := pidsOf(fs.Descendants(1000, nil)), []int{1100, 1210, 1300, 1310}; !slices.Equal(got, want) {
			t.Errorf("children files %t: found %v, want %v", haveChildren, got, want)
		}
		if got, want := pidsOf(fs.Descendants(1000, []int{1300})), []int{1100, 1210}; !slices.Equal(got, want) {
			t.Errorf("children files %t: without 1300 found %v, want %v", haveChildren, got, want)
		}
	}
}

// Where the kernel does not list children, /proc is believed all the same.
func TestChildrenFilesAreUsedWhereTheyAre(t *testing.T) {
	for _, have := range []bool{true, false} {
		self := os.Getpid()
		root := fakeProc(t, fakeProcess{self, 1, "S", [][]int{nil}})
		if err := os.Symlink(strconv.Itoa(self), filepath.Join(root, "self")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "self/status"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if !have {
			if err := os.Remove(filepath.Join(root, "self/task", strconv.Itoa(self), "children")); err != nil {
				t.Fatal(err)
			}
		}
		fs := procfs.OpenAt(root)
		if fs == nil || fs.HasChildren() != have {
			t.Errorf("children files %t: it is %+v", have, fs)
		}
	}
}

// Where /proc hides a child of ours (hidepid) we still know that it is there, and no more.
func TestAHiddenChildIsAChild(t *testing.T) {
	self := os.Getpid()
	root := fakeProc(t, fakeProcess{self, 1, "S", [][]int{{1100, 1200, 1300}}}, fakeProcess{1100, self, "S", [][]int{nil}})
	tr := &Tree{level: Subreaper, self: self, proc: procfs.Fake(root, true), excluded: []int{1300}}
	children := tr.Children()
	if got := pidsOf(children); !slices.Equal(got, []int{1100, 1200}) {
		t.Fatalf("children %v", got)
	}
	if hidden := children[1]; hidden.Start != 0 || hidden.Dead || hidden.BornBefore(time.Hour) || !children[0].BornBefore(time.Hour) {
		t.Errorf("it is %+v", hidden)
	}
}

// A process that is just ending has no environment, and its files in /proc are root's; to a user without rights too it is seen
// as ending, and not as another user's that lives on.
func TestAnEndingProcessIsNotTakenForALivingOne(t *testing.T) {
	const user = 54321
	if os.Geteuid() != 0 {
		t.Log("not root: tried as ourselves alone")
	}
	fs := procfs.Open()
	if fs == nil {
		t.Skip("/proc does not show our own processes")
	}
	living := make(chan int)
	go func() {
		defer close(living)
		runtime.LockOSThread() // and not unlocked: this thread ends with its rights
		if os.Geteuid() == 0 { // of this thread alone
			if _, _, err := syscall.RawSyscall(unix.SYS_SETRESUID, user, user, user); err != 0 {
				t.Error(err)
				return
			}
		}
		for range 3000 {
			pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Env: []string{"OURS=1"}})
			if err != nil {
				t.Error(err)
				return
			}
			_ = unix.Kill(pid, unix.SIGKILL)
			_, ours := fs.Environ(pid, "OURS")
			if p, ok := fs.Read(pid); !ours && (!ok || !p.Dead) {
				living <- pid
			}
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
	}()
	n := 0
	for range living {
		n++
	}
	if n > 0 {
		t.Errorf("%d of 3000 that were killed were taken for living ones of others", n)
	}
}
