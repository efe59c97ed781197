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

// The tracer is a separate process (the helper's role "trace ORDER"), because it must reap all processes of the traced
// tree, and no others. ptrace(2) stops the followed process at each of its system calls. The tracer also stays attached
// to the command's first process, and detaches from all other processes at their start.

// order describes the task of a tracer.
type order struct {
	Command []string
	Cgroup  string // for the whole run; "": the cgroup of the test
	// Guarded means that the guard is the first child of the command's first process.
	Guarded bool
	OfGuard bool // the tracer follows the guard instead of the first process

	// At is the number of the stop, from 1, at which the tracer acts. 0 means never. Without Call, the stops are the
	// beginnings and ends of system calls of all threads of the followed process, and the births of children. With Call,
	// the stops are the beginnings of that call. The tracer kills the followed process at the stop, unless Errno, Signals
	// or Parent is set. With Errno, that call fails with the error. The kernel does not execute the call, except close(2).
	At    int
	Call  string
	Errno syscall.Errno
	All   bool // local calls count as stops, too

	// Signals lists signals that the tracer sends to the first process instead of SIGKILL, once. Stops count only after
	// that process or its guard has started a process. If the tracer has not sent the signals 300 ms after the file Ready
	// exists, it sends them then.
	Signals []syscall.Signal

	// Ready is a file name, or "". When that file exists, the tracer kills the parent if the order has one, sends Signals
	// if there are any, or else sends SIGTERM to the first process.
	Ready string

	// If Parent is not empty, the first process has a parent below the tracer, and the tracer kills this parent instead of
	// the followed process. The value is that of the variable GRACEFUL_DIE_WITH_PARENT. A shell expands it ($$). With
	// "true" the parent has a session of its own.
	Parent string
}

// outcome is the report of a tracer.
type outcome struct {
	Stops  int            // number of stops, as the order defines them
	Where  string         // the stop at which the tracer acted; "": none
	Before []string       // the last stops before Where, at most five
	Calls  map[string]int // how often the followed process has begun a call, by the name of the call
	Born   int            // number of processes that the followed process has started
	Status string         // exit status of the first process, or the name of the signal that ended it
	Ended  string         // the same for the guard; "": the tracer has not seen the end of the guard
	Left   []string       // processes that graceful did not end or did not reap, with their names
	Late   bool           // some processes had to be killed because they did not end in time
	Failed string         // why the tracer failed; "": it did not
}

// trace carries out an order in a directory. The file output there contains the output of the run.
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

// traceRole is the tracer. It writes its outcome to the file outcome.
func traceRole(args []string) int {
	runtime.LockOSThread() // only the thread that has seized a process may trace the process
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

// tracing is the state of the tracer.
type tracing struct {
	order
	outcome
	act func(tid int) // the action at stop At

	mu           sync.Mutex   // protects ended, over, Signals, Left and Late from concurrent use
	first, guard int          // pids; 0: not born yet, or no guard
	parent       int          // pid of the parent of first; 0: the tracer
	ended        map[int]bool // the pids of first, guard and parent, once they have ended
	over         bool         // all processes of graceful have ended, or were killed for being late
	executed     bool         // the shell has executed the command

	tasks map[int]*task // by thread id
}

// task is a thread that is traced.
type task struct {
	process int    // pid of its process
	call    string // name of the current or last system call
	local   bool   // the call affects only its process
	failing bool   // the call will fail
}

// trace carries out the order, from the start of the command until its last process has ended.
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
		tid, err := nextStopped()
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

// startShell starts a shell that writes its pid to the socket, and becomes the command when the caller closes here, the
// other end. The caller seizes the shell before that, since PTRACE_TRACEME does not support group stops. The caller
// waits for the pid, because the shell's own execve(2) is certainly over after the shell has written. child is the
// shell, or its parent if the order has one.
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
	dir, err := os.Getwd() // the test removes this directory, with the files that a killed run may leave
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

// handle consumes the event of a thread that nextStopped has returned: a stop, or the end of the thread.
func (t *tracing) handle(tid int) error {
	name := ""
	if t.tasks[tid] == nil {
		name = identify(tid) // while the process still has a name
	}
	var status unix.WaitStatus
	switch got, err := unix.Wait4(tid, &status, unix.WALL|unix.WNOHANG, nil); {
	case err != nil || got == 0: // the thread was killed meanwhile, and its end will follow
	case status.Stopped():
		if err := t.stopped(tid, status); err != nil && err != unix.ESRCH { // ESRCH: the thread was killed
			return err
		}
	default:
		t.reaped(tid, status, name)
	}
	return nil
}

// nextStopped waits for a thread that has stopped or ended. It does not consume the event.
func nextStopped() (tid int, err error) {
	var info struct {
		signo, errno, code, _, pid int32 // layout of siginfo_t with 64-bit pointers
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

// followed returns the pid of the process that the tracer follows, or 0 if that is a guard that is not born yet.
func (t *tracing) followed() int {
	if t.OfGuard {
		return t.guard
	}
	return t.first
}

// stopped handles a stop of a thread. Then it continues the thread, except in a group stop, or detaches from it.
func (t *tracing) stopped(tid int, status unix.WaitStatus) error {
	k := t.tasks[tid]
	if k == nil { // the first stop of a new thread may come before the event of its birth
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
			sig = int(status.StopSignal()) // deliver the signal
		} else if err := t.atCall(tid, k, follow); err != nil {
			return err
		}
	case unix.PTRACE_EVENT_STOP:
		if status.StopSignal() != unix.SIGTRAP { // a group stop lasts until SIGCONT
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

// killDescendants kills all descendants of the tracer, and returns the text of identify for each.
func killDescendants() (names []string) {
	for queue := childrenOf(os.Getpid()); len(queue) > 0; queue = queue[1:] {
		pid := queue[0]
		queue = append(queue, childrenOf(pid)...)
		names = append(names, identify(pid))
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return names
}

// identify returns the pid, name and state of a process, or "" for a thread that is not the first of its process.
func identify(pid int) string {
	if threadGroup(pid) != pid {
		return ""
	}
	return fmt.Sprintf("%d (%s) %s", pid, comm(pid), processState(pid))
}

// threadGroup returns the pid of a thread's process, or 0 if the thread does not exist.
func threadGroup(tid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	_, rest, _ := strings.Cut(string(status), "\nTgid:")
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}
