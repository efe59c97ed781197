package tree

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// counted is a signal of which each one sent is kept (signal(7): real-time signals are queued), so that those that
// came twice can be told from those that came once.
const counted syscall.Signal = 40

func countedSet() *unix.Sigset_t {
	var set unix.Sigset_t
	bits := 8 * uint(unsafe.Sizeof(set.Val[0]))
	set.Val[(counted-1)/syscall.Signal(bits)] |= 1 << (uint(counted-1) % bits)
	return &set
}

// count says for each line that it reads how many signals have come since the last one.
func count() {
	fd, err := unix.Signalfd(-1, countedSet(), unix.SFD_NONBLOCK|unix.SFD_CLOEXEC)
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		n := 0
		for info := make([]byte, unsafe.Sizeof(unix.SignalfdSiginfo{})); ; n++ {
			if _, err := unix.Read(fd, info); err != nil {
				break
			}
		}
		fmt.Println(n)
	}
}

// counter is a process that counts. It was started with the signal blocked, so that the kernel keeps it.
type counter struct {
	*exec.Cmd
	ask    io.Writer
	answer *bufio.Scanner
}

func newCounter(t *testing.T, attr *syscall.SysProcAttr) counter {
	t.Helper()
	c := role(t, "count", attr)
	ask, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// A child has the mask of the thread that forks it.
	runtime.LockOSThread()
	var before unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, countedSet(), &before); err != nil {
		t.Fatal(err)
	}
	err = c.Start()
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	n := counter{c, ask, bufio.NewScanner(answer)}
	if !n.answer.Scan() || n.answer.Text() != "ready" {
		t.Fatalf("a counter says %q", n.answer.Text())
	}
	return n
}

func (n counter) got(t *testing.T) string {
	t.Helper()
	fmt.Fprintln(n.ask)
	if !n.answer.Scan() {
		t.Fatal("a counter has gone: ", n.answer.Err())
	}
	return n.answer.Text()
}

// Many programs take a second stop signal for the wish that they drop everything. None gets two for one, whether it
// is in the target's group or has left it, whether the target is still there or not.
func TestEveryMemberGetsASignalOnce(t *testing.T) {
	for _, level := range []Level{Group, Subreaper} {
		t.Run(string(level), func(t *testing.T) {
			tr := open(t, level)
			target := newCounter(t, &syscall.SysProcAttr{Setpgid: true})
			with := newCounter(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
			away := newCounter(t, &syscall.SysProcAttr{Setpgid: true})
			tr.Started(target.Process.Pid)
			outside := "0"
			if level == Subreaper {
				outside = "1"
			}

			tr.Signal(counted)
			if got, want := strings.Join([]string{target.got(t), with.got(t), away.got(t)}, " "), "1 1 "+outside; got != want {
				t.Errorf("target, its group, another group got %s signals, want %s", got, want)
			}
			if err := tr.SignalGroup(counted); err != nil {
				t.Error(err)
			}
			if got, want := strings.Join([]string{target.got(t), with.got(t), away.got(t)}, " "), "1 1 0"; got != want {
				t.Errorf("of those to the group they got %s, want %s", got, want)
			}
			if err := target.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = target.Wait()
			tr.Reaped(target.Process.Pid)
			tr.Signal(counted)
			if got, want := with.got(t)+" "+away.got(t), "1 "+outside; got != want {
				t.Errorf("after the target they got %s, want %s", got, want)
			}
		})
	}
}

// looks is a /proc that shows each look at our children something else, the last for ever after. The first process of
// a look is ourselves; its children file is a FIFO, whose writer knows when somebody looks.
func looks(t *testing.T, looks ...[]fakeProcess) *procfs.FS {
	t.Helper()
	us := looks[0][0]
	root := fakeProc(t, us)
	file := filepath.Join(root, fmt.Sprintf("%d/task/%d/children", us.pid, us.pid))
	fresh := func() error { // who has the old one open has it still
		if err := unix.Mkfifo(file+".new", 0o600); err != nil {
			return err
		}
		return os.Rename(file+".new", file)
	}
	if err := fresh(); err != nil {
		t.Fatal(err)
	}
	over := make(chan bool)
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for {
			answer, err := os.OpenFile(file, os.O_WRONLY, 0) // when there is a reader
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case <-over:
				answer.Close()
				return
			default:
			}
			for _, p := range looks[0][1:] {
				p.show(t, root)
			}
			if err := fresh(); err != nil {
				t.Error(err)
			}
			fmt.Fprint(answer, looks[0][0].list(0))
			answer.Close()
			if len(looks) > 1 {
				looks = looks[1:]
			}
		}
	}()
	t.Cleanup(func() {
		close(over)
		if reader, err := os.OpenFile(file, os.O_RDONLY, 0); err == nil {
			reader.Close()
		}
		<-ended
	})
	return procfs.Fake(root, true)
}

// Who dies of a signal hands its children up to us while we look; what a living member starts is left to it.
func TestOrphansThatMoveUpMeanwhileAreSignalledOnce(t *testing.T) {
	self := os.Getpid()
	var counters []counter
	var pids []int
	for range 9 {
		c := newCounter(t, &syscall.SysProcAttr{})
		counters, pids = append(counters, c), append(pids, c.Process.Pid)
	}
	dying, itsChild, born, started, foreign, dead, hidden, late, lateChild :=
		pids[0], pids[1], pids[2], pids[3], pids[4], pids[5], pids[6], pids[7], pids[8]
	us := func(children ...int) fakeProcess { return fakeProcess{self, 1, "S", [][]int{children}} }
	process := func(pid, parent int, children ...int) fakeProcess {
		return fakeProcess{pid, parent, "S", [][]int{children}}
	}
	zombie := func(pid int) fakeProcess { return fakeProcess{pid, self, "Z", [][]int{nil}} }
	before := []fakeProcess{us(foreign, dying), process(dying, self, itsChild), process(itsChild, dying), process(foreign, self)}
	after := []fakeProcess{us(foreign, dying, itsChild, born), zombie(dying), process(itsChild, self, started),
		process(born, self), process(started, itsChild)}
	later := []fakeProcess{us(foreign, dying, itsChild, born, dead, hidden, late), zombie(dead), process(late, self, lateChild),
		process(lateChild, late)}
	tr := &Tree{level: Subreaper, self: self, excluded: []int{foreign}, proc: looks(t, before, after, after, later)}
	check := func(when, want string) {
		t.Helper()
		var got []string
		for _, c := range counters {
			got = append(got, c.got(t))
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s they got %s signals, want %s", when, got, want)
		}
	}
	tr.SignalOrphans(counted)
	check("before any signal", "0 0 0 0 0 0 0 0 0")
	tr.Signal(counted)
	check("at once", "1 1 1 0 0 0 0 0 0")
	tr.SignalOrphans(counted)
	check("later", "0 0 0 0 0 0 0 1 0")
	tr.SignalOrphans(counted)
	check("another time", "0 0 0 0 0 0 0 0 0")
	tr.level, tr.signalled = Group, map[procfs.Identity]bool{} // where our children need not be the run's
	tr.SignalOrphans(counted)
	check("at the group level", "0 0 0 0 0 0 0 0 0")
}

// setsid(2) between our look and the signal to the group: the member was in the group then, and is not any more.
func TestAMemberThatLeavesTheGroupMeanwhileIsSignalledOnce(t *testing.T) {
	self := os.Getpid()
	target := newCounter(t, &syscall.SysProcAttr{Setpgid: true})
	with := newCounter(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
	gone := newCounter(t, &syscall.SysProcAttr{Setsid: true})
	group := target.Process.Pid
	children := []int{group, with.Process.Pid, gone.Process.Pid}
	root := fakeProc(t, fakeProcess{self, 1, "S", [][]int{children}})
	for _, pid := range children {
		stat := fmt.Sprintf("%d (p) S %d %d 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0", pid, self, group, pid)
		if err := os.Mkdir(filepath.Join(root, fmt.Sprint(pid)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, fmt.Sprintf("%d/stat", pid)), []byte(stat), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tr := &Tree{level: Subreaper, self: self, proc: procfs.Fake(root, true)}
	tr.Started(group)
	tr.Signal(counted)
	if got := target.got(t) + " " + with.got(t) + " " + gone.got(t); got != "1 1 1" {
		t.Errorf("the target, its group, who left it got %s signals", got)
	}
}

// A stop signal to the group is remembered for each member, and only those that have not had it get the next one; what a
// living member starts meanwhile is left to it, and what the dead have left is not.
func TestMembersThatHadAStopSignalGetNoSecondOne(t *testing.T) {
	for _, level := range []Level{Group, Subreaper} {
		t.Run(string(level), func(t *testing.T) {
			tr := open(t, level)
			target := newCounter(t, &syscall.SysProcAttr{Setpgid: true})
			with := newCounter(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
			away := newCounter(t, &syscall.SysProcAttr{Setpgid: true})
			tr.Started(target.Process.Pid)
			outside := "0"
			if level == Subreaper {
				outside = "1"
			}
			if err := tr.StopGroup(counted); err != nil {
				t.Fatal(err)
			}
			born := newCounter(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
			if got := strings.Join([]string{target.got(t), with.got(t), away.got(t), born.got(t)}, " "); got != "1 1 0 0" {
				t.Errorf("of the stop signal the target, its group, another group and a later process got %s", got)
			}
			tr.SignalUnasked(counted)
			if got, want := strings.Join([]string{target.got(t), with.got(t), away.got(t), born.got(t)}, " "), "0 0 "+outside+" 1"; got != want {
				t.Errorf("of the next one they got %s, want %s", got, want)
			}
			tr.Signal(counted) // a further stop signal is for all of them
			if got, want := strings.Join([]string{target.got(t), with.got(t), away.got(t), born.got(t)}, " "), "1 1 "+outside+" 1"; got != want {
				t.Errorf("of another one they got %s, want %s", got, want)
			}
		})
	}
}

// Without a look at anybody, all of a group has had what was sent to it.
func TestAGroupThatCannotBeSeenGetsNoSecondStopSignal(t *testing.T) {
	target := newCounter(t, &syscall.SysProcAttr{Setpgid: true})
	tr := &Tree{level: Group, self: os.Getpid()}
	tr.Started(target.Process.Pid)
	if err := tr.StopGroup(counted); err != nil {
		t.Fatal(err)
	}
	tr.SignalUnasked(counted)
	if got := target.got(t); got != "1" {
		t.Errorf("it got %s", got)
	}
}
