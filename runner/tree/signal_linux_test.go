package tree

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
	"graceful/runner/procfs/proctest"
)

// SignalGroup signals the group until the target is reaped. Afterwards the kernel may reuse the group's id, so
// SignalGroup signals no process, and Signal signals each member separately.
func TestSignalGroup_reapedTarget(t *testing.T) {
	tr := openLevel(t, Group)
	target, first := startGroup(t)
	second := startSleeper(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
	tr.SetTarget(target.Process.Pid)

	kill(t, first)
	endedBy(t, first)
	tr.NoteReaped(first.Process.Pid) // affects no other pid
	if err := tr.SignalGroup(0); err != nil {
		t.Error(err)
	}
	kill(t, target)
	endedBy(t, target)
	tr.NoteReaped(target.Process.Pid)
	if err := tr.SignalGroup(unix.SIGUSR1); err != nil {
		t.Error(err)
	}
	tr.Signal(unix.SIGTERM)
	if sig := endedBy(t, second); sig != unix.SIGTERM {
		t.Errorf("the last member was ended by %v, want the signal of Signal", sig)
	}
}

// SignalGroup signals only the target if the target leads no group.
func TestSignalGroup_targetLeadsNoGroup(t *testing.T) {
	tr := openLevel(t, Group)
	target := startSleeper(t, &syscall.SysProcAttr{}) // in the group of the test
	tr.SetTarget(target.Process.Pid)
	if err := tr.SignalGroup(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if sig := endedBy(t, target); sig != unix.SIGTERM {
		t.Errorf("ended by %v", sig)
	}
}

// except replaces the expected error by nil, and returns every other error. With it, the signal functions return no
// error for a missing process.
func TestExcept(t *testing.T) {
	for err, want := range map[error]error{unix.ESRCH: nil, unix.EPERM: unix.EPERM, nil: nil} {
		if got := except(unix.ESRCH, err); got != want {
			t.Errorf("except(ESRCH, %v) is %v", err, got)
		}
	}
}

// signal does not signal a process that has reused the pid of the recorded process.
func TestSignal_reusedPID(t *testing.T) {
	tr := openLevel(t, Group)
	root, _ := startTree(t)
	p, ok := tr.proc.Read(root)
	if !ok {
		t.Fatal("our own child cannot be read")
	}
	p.PPID = 1 // not a child of the test, so that signal checks its identity
	p.Start--  // the record is of another process that had the pid
	if err := tr.signal(p, unix.SIGKILL); err != unix.ESRCH {
		t.Errorf("error %v, want ESRCH", err)
	}
	if !isAlive(tr.proc, root) {
		t.Error("another process was killed")
	}
}

// One call of Signal sends each member the signal once, inside and outside of the target's group, before and after the
// target's end. Many programs treat a second stop signal as "abort now".
func TestSignal_reachesEachMemberOnce(t *testing.T) {
	for _, level := range []Level{Group, Subreaper} {
		t.Run(string(level), func(t *testing.T) {
			tr := openLevel(t, level)
			target, inside, outside := startCounterGroup(t)
			tr.SetTarget(target.Process.Pid)

			tr.Signal(counted)
			if got, want := counts(t, target, inside, outside), "1 1 "+outsideCount(level); got != want {
				t.Errorf("target, its group, another group received %s signals, want %s", got, want)
			}
			if err := tr.SignalGroup(counted); err != nil {
				t.Error(err)
			}
			if got, want := counts(t, target, inside, outside), "1 1 0"; got != want {
				t.Errorf("from SignalGroup they received %s, want %s", got, want)
			}
			kill(t, target.Cmd)
			_ = target.Wait()
			tr.NoteReaped(target.Process.Pid)
			tr.Signal(counted)
			if got, want := counts(t, inside, outside), "1 "+outsideCount(level); got != want {
				t.Errorf("after the target's end they received %s, want %s", got, want)
			}
		})
	}
}

// outsideCount returns how many instances of a signal from Signal reach a process outside of the target's group.
func outsideCount(level Level) string {
	if level == Subreaper {
		return "1"
	}
	return "0"
}

// If a member calls setsid(2) between the scan and the signal to the group, the member still receives the signal.
func TestSignal_memberLeavesGroup(t *testing.T) {
	self := os.Getpid()
	target := startCounter(t, &syscall.SysProcAttr{Setpgid: true})
	inside := startCounter(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
	gone := startCounter(t, &syscall.SysProcAttr{Setsid: true})
	group := target.Process.Pid
	children := []int{group, inside.Process.Pid, gone.Process.Pid}
	processes := []proctest.Process{{PID: self, PPID: 1, Threads: [][]int{children}}}
	for _, pid := range children { // /proc still shows all of them in the group
		processes = append(processes, proctest.Process{PID: pid, PPID: self, Group: group})
	}
	tr := &Tree{level: Subreaper, self: self, root: self, proc: procfs.Fake(proctest.Dir(t, processes...), true)}
	tr.SetTarget(group)
	tr.Signal(counted)
	if got := counts(t, target, inside, gone); got != "1 1 1" {
		t.Errorf("the target, its group, the process that left it received %s signals", got)
	}
}

// When a member dies of the signal, its children are reparented to graceful during the search, and receive the signal
// once from Signal. If they are reparented after the search, they receive it from SignalOrphans. A process that a live
// member starts after the signal receives none.
func TestSignalOrphans_reparentedMeanwhile(t *testing.T) {
	self := os.Getpid()
	var counters []counter
	var pids []int
	for range 9 {
		c := startCounter(t, &syscall.SysProcAttr{})
		counters, pids = append(counters, c), append(pids, c.Process.Pid)
	}
	dying, itsChild, born, started, excluded, dead, hidden, late, lateChild :=
		pids[0], pids[1], pids[2], pids[3], pids[4], pids[5], pids[6], pids[7], pids[8]
	graceful := func(children ...int) proctest.Process {
		return proctest.Process{PID: self, PPID: 1, Threads: [][]int{children}}
	}
	process := func(pid, parent int, children ...int) proctest.Process {
		return proctest.Process{PID: pid, PPID: parent, Threads: [][]int{children}}
	}
	zombie := func(pid int) proctest.Process { return proctest.Process{PID: pid, PPID: self, State: "Z"} }
	before := []proctest.Process{graceful(excluded, dying), process(dying, self, itsChild), process(itsChild, dying),
		process(excluded, self)}
	after := []proctest.Process{graceful(excluded, dying, itsChild, born), zombie(dying),
		process(itsChild, self, started), process(born, self), process(started, itsChild)}
	later := []proctest.Process{graceful(excluded, dying, itsChild, born, dead, hidden, late), zombie(dead),
		process(late, self, lateChild), process(lateChild, late)}
	fs := procSequence(t, before, after, after, later)
	tr := &Tree{level: Subreaper, self: self, root: self, excluded: []int{excluded}, proc: fs}
	check := func(when, want string) {
		t.Helper()
		if got := counts(t, counters...); got != want {
			t.Errorf("%s they received %s signals, want %s", when, got, want)
		}
	}
	tr.SignalOrphans(counted)
	check("before any Signal", "0 0 0 0 0 0 0 0 0")
	tr.Signal(counted)
	check("from Signal", "1 1 1 0 0 0 0 0 0")
	tr.SignalOrphans(counted)
	check("from SignalOrphans", "0 0 0 0 0 0 0 1 0")
	tr.SignalOrphans(counted)
	check("from a second SignalOrphans", "0 0 0 0 0 0 0 0 0")
	tr.level, tr.signalled = Group, map[procfs.Identity]bool{} // at this level a child of graceful need not be a member
	tr.SignalOrphans(counted)
	check("at level Group", "0 0 0 0 0 0 0 0 0")
}

// procSequence returns a /proc that changes. The n-th read of graceful's children adds or changes the processes in the
// n-th list, and each further read shows the last list. The first process of each list is graceful. Its children file
// is a FIFO, so that the writer notices each reader.
func procSequence(t *testing.T, steps ...[]proctest.Process) *procfs.FS {
	t.Helper()
	graceful := steps[0][0]
	root := proctest.Dir(t, graceful)
	file := graceful.ChildrenFile(root, 0)
	renew := func() error { // a reader of the old FIFO keeps that one open
		if err := unix.Mkfifo(file+".new", 0o600); err != nil {
			return err
		}
		return os.Rename(file+".new", file)
	}
	if err := renew(); err != nil {
		t.Fatal(err)
	}
	over := make(chan bool)
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for {
			answer, err := os.OpenFile(file, os.O_WRONLY, 0) // blocks until there is a reader
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
			for _, p := range steps[0][1:] {
				p.WriteTo(t, root)
			}
			if err := renew(); err != nil {
				t.Error(err)
			}
			fmt.Fprint(answer, steps[0][0].Children(0))
			answer.Close()
			if len(steps) > 1 {
				steps = steps[1:]
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

// After StopGroup, SignalRest signals only members that StopGroup has not signalled. They include a process that starts
// later, because its parent, the test, has received no signal.
func TestSignalRest_afterStopGroup(t *testing.T) {
	for _, level := range []Level{Group, Subreaper} {
		t.Run(string(level), func(t *testing.T) {
			tr := openLevel(t, level)
			target, inside, outside := startCounterGroup(t)
			tr.SetTarget(target.Process.Pid)
			err := tr.StopGroup(counted)
			if tr.NoteReceivers(); err != nil {
				t.Fatal(err)
			}
			born := startCounter(t, &syscall.SysProcAttr{Setpgid: true, Pgid: target.Process.Pid})
			if got := counts(t, target, inside, outside, born); got != "1 1 0 0" {
				t.Errorf("from StopGroup the target, its group, another group and a later process received %s", got)
			}
			tr.SignalRest(counted)
			if got, want := counts(t, target, inside, outside, born), "0 0 "+outsideCount(level)+" 1"; got != want {
				t.Errorf("from SignalRest they received %s, want %s", got, want)
			}
			tr.Signal(counted)
			if got, want := counts(t, target, inside, outside, born), "1 1 "+outsideCount(level)+" 1"; got != want {
				t.Errorf("from Signal they received %s, want %s", got, want)
			}
		})
	}
}

// At level Group without /proc, SignalRest signals no process after StopGroup, because every member of the group counts
// as a receiver.
func TestSignalRest_withoutProc(t *testing.T) {
	target := startCounter(t, &syscall.SysProcAttr{Setpgid: true})
	tr := &Tree{level: Group, self: os.Getpid(), root: os.Getpid()}
	tr.SetTarget(target.Process.Pid)
	err := tr.StopGroup(counted)
	if tr.NoteReceivers(); err != nil {
		t.Fatal(err)
	}
	tr.SignalRest(counted)
	if got := counts(t, target); got != "1" {
		t.Errorf("the target received %s signals", got)
	}
}

// SignalGroupOf refuses each pid below 2. Otherwise 0 would mean the caller's own group, and 1 all processes (kill(2)).
// The test sends signal 0, which has no effect.
func TestSignalGroupOf_refusesOwnGroupAndAll(t *testing.T) {
	for _, pid := range []int{-1, 0, 1} {
		if err := SignalGroupOf(pid, 0); err != unix.EINVAL {
			t.Errorf("%d: %v, want %v", pid, err, unix.EINVAL)
		}
	}
}
