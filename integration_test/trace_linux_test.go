//go:build amd64 || arm64

package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tracer is a process of its own (the helper's role "trace ORDER"): it must reap whatever is left of the tree that
// it looks at, and nobody else's children. ptrace(2) stops the process of interest at each of its system calls; all
// others are let go when they are born.

// order is what a tracer is asked to do.
type order struct {
	Command []string
	Cgroup  string // that all of it runs in; "": ours
	// Guarded: the command's first process has one child before all others, its guard.
	Guarded bool
	OfGuard bool // it is the guard that is stopped at its calls, and not the first process

	// At which stop something happens, counted from 1; 0: never. Without Call the stops are the ends and the beginnings of
	// system calls, by all threads together, and the births of children; the process is killed there. With Call the
	// stops are the beginnings of that call, and the call fails with Errno without having been executed, or, without
	// an Errno, is where the process is killed.
	At    int
	Call  string
	Errno syscall.Errno
	All   bool // at local calls, too

	// Signals are sent to the first process in place of SIGKILL. Only stops count at which it or its guard has started
	// something. They are sent, too, when the file Ready has been there for a while.
	Signals []syscall.Signal

	// Ready is a file; when it is there, SIGTERM goes to the first process, or the parent is killed.
	Ready string

	// Parent: the first process has a parent between us and itself, which is killed in its place. It has the death of that
	// mean SIGTERM by the variable with this value, which a shell expands ($$). With "true" the parent has a session of
	// its own.
	Parent string
}

// outcome is what a tracer reports.
type outcome struct {
	Stops  int            // how many there were
	Where  string         // it happened, or empty
	Before []string       // the last stops before that
	Calls  map[string]int // that the process has made
	Born   int            // processes that it has given birth to
	Status string         // of the command, as its caller sees it
	Ended  string         // how the guard ended
	Left   []string       // processes that nobody has ended, or not reaped, and who they were
	Late   bool           // some of which had to be killed because they did not end in time
	Failed string         // why the tracer could not do what it was asked
}

// trace carries an order out in a directory. A failure to do so is the test's.
func trace(t *testing.T, dir string, o order) (outcome, error) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		return outcome{}, err
	}
	output, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return outcome{}, err
	}
	defer output.Close()
	cmd := exec.Command("helper", "trace", string(text))
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, output, output
	if o.Cgroup != "" {
		group, err := os.Open(o.Cgroup)
		if err != nil {
			return outcome{}, err
		}
		defer group.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	}
	if err := cmd.Run(); err != nil {
		return outcome{}, fmt.Errorf("the tracer: %w", err)
	}
	report, err := os.ReadFile(filepath.Join(dir, "outcome"))
	if err != nil {
		return outcome{}, err
	}
	var done outcome
	if err := json.Unmarshal(report, &done); err != nil {
		return outcome{}, err
	}
	if done.Failed != "" {
		return outcome{}, fmt.Errorf("the tracer: %s", done.Failed)
	}
	return done, nil
}

func init() { roles["trace"] = traceRole }

func traceRole(args []string) int {
	runtime.LockOSThread() // it is a thread that traces
	t := tracing{tasks: map[int]*task{}}
	t.Calls = map[string]int{}
	if err := json.Unmarshal([]byte(args[0]), &t.order); err != nil {
		panic(err)
	}
	t.act = t.kill
	switch {
	case t.Errno != 0:
		t.act = t.fail
	case len(t.Signals) > 0:
		t.act = func(int) { t.signal() }
	case t.Parent != "":
		t.act = func(int) { t.killParent() }
	}
	if err := t.trace(); err != nil {
		t.Failed = err.Error()
	}
	report, err := json.Marshal(t.outcome)
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile("outcome", report, 0o644); err != nil {
		panic(err)
	}
	return 0
}

type tracing struct {
	order
	outcome
	act func(tid int) // what happens at the stop that was ordered

	mu           sync.Mutex // other threads look at what follows
	first, guard int        // 0: not born yet
	parent       int        // of graceful; 0: us
	ended        map[int]bool
	over         bool // both have ended
	executed     bool // graceful is the command now

	tasks map[int]*task
}

// task is a thread that is traced.
type task struct {
	process int
	call    string // that it is in
	local   bool   // which concerns its process alone
	failing bool   // it will fail
}

// trace carries out the order, from the start of the command to the end of all that it leaves.
func (t *tracing) trace() error {
	t.ended = map[int]bool{}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := t.begin(); err != nil {
		return err
	}
	defer time.AfterFunc(patience, t.giveUp).Stop()
	if t.Ready != "" {
		go t.terminateWhenReady()
	}
	for {
		tid, err := next()
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			return nil
		case err != nil:
			return err
		}
		if err := t.handle(tid); err != nil {
			return err
		}
	}
}

// begin starts the shell that becomes the command, and seizes it (PTRACE_SEIZE).
func (t *tracing) begin() error {
	here, child, err := t.startShell()
	if err != nil {
		return err
	}
	text := make([]byte, 32)
	n, err := here.Read(text)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil {
		return err
	}
	if t.first = pid; pid != child {
		t.parent = child
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
		unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
	if err := ptrace(unix.PTRACE_SEIZE, pid, 0, options); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		return fmt.Errorf("PTRACE_SEIZE: %w", err)
	}
	t.tasks[pid] = &task{process: pid}
	here.Close()
	return nil
}

// startShell starts a shell that writes its pid to the socket here, and becomes the command when that is closed.
// PTRACE_TRACEME knows no group stops, so the shell is seized in between: its own execve(2) is over only when it has
// written. child is the shell, or its parent if the order has one.
func (t *tracing) startShell() (here *os.File, child int, err error) {
	here, there, err := socketpair()
	if err != nil {
		return nil, 0, err
	}
	shell := []string{"sh", "-c", `echo $$ >&3; read -r _ <&3; exec "$@" 3<&-`}
	if t.Parent != "" {
		shell = []string{"sh", "-c", `export GRACEFUL_DIE_WITH_PARENT=` + t.Parent + `; sh -c "$0" sh "$@"; exit`, shell[2]}
	} else {
		shell = append(shell, "sh")
	}
	dir, err := os.Getwd() // which goes with what a run leaves there that is killed in its first or last moment
	if err != nil {
		return nil, 0, err
	}
	child, err = syscall.ForkExec("/bin/sh", append(shell, t.Command...), &syscall.ProcAttr{
		Env: append(os.Environ(), "XDG_RUNTIME_DIR="+dir), Files: []uintptr{0, 1, 2, there.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: t.Parent == "true"},
	})
	there.Close()
	return here, child, err
}

// handle takes what there is to know about a thread: a stop or its end.
func (t *tracing) handle(tid int) error {
	who := ""
	if t.tasks[tid] == nil {
		who = identify(tid) // as long as it can be asked
	}
	var status unix.WaitStatus
	switch got, err := unix.Wait4(tid, &status, unix.WALL|unix.WNOHANG, nil); {
	case err != nil || got == 0: // it has been killed, and there will be more to know
	case status.Stopped():
		if err := t.stopped(tid, status); err != nil && err != unix.ESRCH { // the same
			return err
		}
	default:
		t.reaped(tid, status, who)
	}
	return nil
}

// next waits for a thread about which there is something to know, and leaves that to be taken.
func next() (tid int, err error) {
	var info struct {
		signo, errno, code, _, pid int32 // of siginfo_t where pointers have 64 bits
		_                          [108]byte
	}
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)),
		unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT|unix.WALL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(info.pid), nil
}

func socketpair() (here, there *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "here"), os.NewFile(uintptr(fds[1]), "there"), nil
}

// followed is the process whose calls count.
func (t *tracing) followed() int {
	if t.OfGuard {
		return t.guard
	}
	return t.first
}

func (t *tracing) stopped(tid int, status unix.WaitStatus) error {
	k := t.tasks[tid]
	if k == nil { // a newcomer's first stop, which may come before its birth is told
		k = &task{process: threadGroup(tid), call: "clone"}
		if k.process == tid {
			if t.Guarded && t.guard == 0 {
				t.guard = tid
			}
			if t.followed() != tid {
				return ptrace(unix.PTRACE_DETACH, tid, 0, 0)
			}
		}
		t.tasks[tid] = k
	}
	follow := k.process == t.followed() && (t.executed || t.OfGuard)
	sig := 0
	switch event := uint32(status) >> 16; event {
	case 0:
		if status.StopSignal() != unix.SIGTRAP|0x80 {
			sig = int(status.StopSignal()) // on its way to the process
		} else if err := t.atCall(tid, k, follow); err != nil {
			return err
		}
	case unix.PTRACE_EVENT_STOP:
		if status.StopSignal() != unix.SIGTRAP { // a group stop: it stays so until SIGCONT
			return ptrace(unix.PTRACE_LISTEN, tid, 0, 0)
		}
	case unix.PTRACE_EVENT_EXEC:
		t.executed, k.call = true, "execve"
	case unix.PTRACE_EVENT_FORK, unix.PTRACE_EVENT_VFORK, unix.PTRACE_EVENT_CLONE:
		if follow && !k.local {
			t.Born++
		}
		if follow && t.Call == "" && (t.All || !k.local) {
			t.point(tid, "birth by "+k.call)
		}
	}
	if k.process == t.followed() {
		return ptrace(unix.PTRACE_SYSCALL, tid, 0, uintptr(sig))
	}
	return ptrace(unix.PTRACE_CONT, tid, 0, uintptr(sig))
}

// killDescendants kills all that is below us and says who that was.
func killDescendants() (who []string) {
	for queue := childrenOf(os.Getpid()); len(queue) > 0; queue = queue[1:] {
		pid := queue[0]
		queue = append(queue, childrenOf(pid)...)
		who = append(who, identify(pid))
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return who
}

// identify names a process; a thread of another has no name.
func identify(pid int) string {
	if threadGroup(pid) != pid {
		return ""
	}
	return fmt.Sprintf("%d (%s) %s", pid, comm(pid), state(pid))
}

// threadGroup is the process that a thread belongs to.
func threadGroup(tid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	_, rest, _ := strings.Cut(string(status), "\nTgid:")
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}
