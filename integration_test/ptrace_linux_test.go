//go:build amd64 || arm64

package integration_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syscallInfo is struct ptrace_syscall_info (ptrace(2)). nr and args are valid only at the beginning of a call.
type syscallInfo struct {
	op     uint8
	_      [3]byte
	arch   uint32
	ip, sp uint64
	nr     uint64
	args   [6]uint64
	_      [16]byte
}

// atCall handles a stop at the beginning or at the end of a system call. follow means that the thread belongs to the
// followed process, and that the shell has already executed the command.
func (t *tracing) atCall(tid int, k *task, follow bool) error {
	var info syscallInfo
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info),
		uintptr(unsafe.Pointer(&info)), 0, 0); errno != 0 {
		return errno
	}
	entry := info.op == unix.PTRACE_SYSCALL_INFO_ENTRY
	if entry {
		k.call, k.local = describe(tid, info.nr, info.args)
	}
	switch {
	case !follow:
	case t.Call == "":
		if t.All || !k.local {
			t.point(tid, map[bool]string{true: "beginning of ", false: "end of "}[entry]+k.call)
		}
	case entry && k.call == t.Call:
		t.point(tid, k.call)
	case !entry && k.failing:
		k.failing = false
		if err := setResult(tid, t.Errno); err != nil {
			return err
		}
	}
	if entry && follow {
		t.Calls[k.call]++
	}
	return nil
}

// point counts a stop. At the stop At of the order it acts, and before that it remembers the last five stops. While the
// order has signals, stops do not count before the first process or its guard has a child.
func (t *tracing) point(tid int, where string) {
	if len(t.Signals) > 0 && len(childrenOf(cmp.Or(t.guard, t.first))) == 0 {
		return
	}
	t.Stops++
	switch {
	case t.Stops == t.At:
		t.Where = where
		t.act(tid)
	case t.Where == "":
		if len(t.Before) == 5 {
			t.Before = t.Before[1:]
		}
		t.Before = append(t.Before, where)
	}
}

func (t *tracing) kill(int) { _ = unix.Kill(t.followed(), unix.SIGKILL) }

// signal sends the signals of the order to the first process, once.
func (t *tracing) signal() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, sig := range t.Signals {
		_ = unix.Kill(t.first, sig)
	}
	t.Signals = t.Signals[:0]
}

// killParent kills the parent if it is alive, and returns when its children have been reparented.
func (t *tracing) killParent() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended[t.parent] {
		return
	}
	_ = unix.Kill(t.parent, unix.SIGKILL)
	for unix.Waitid(unix.P_PID, t.parent, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// fail makes the current system call of a thread fail. The call is not executed, except for close(2).
func (t *tracing) fail(tid int) {
	t.tasks[tid].failing = true
	if t.Call == "close" {
		return // close(2) closes a descriptor even if it fails
	}
	if err := setCall(tid, -1); err != nil && err != unix.ESRCH {
		t.Failed = fmt.Sprint("changing a system call: ", err)
	}
}

// reaped records the end of a process, or of a traced thread. When all processes of graceful have ended, the remaining
// processes count as left.
func (t *tracing) reaped(tid int, status unix.WaitStatus, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.tasks[tid]
	delete(t.tasks, tid)
	how := fmt.Sprint(status.ExitStatus())
	if status.Signaled() {
		how = strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")
	}
	if tid == t.first {
		t.Status = how
		if t.Guarded && t.guard == 0 {
			// Find the guard among the children, because the first stop of the guard has not come yet.
			children := slices.DeleteFunc(childrenOf(os.Getpid()), func(pid int) bool { return pid == t.parent })
			if len(children) > 0 {
				t.guard = children[0]
			}
		}
		if !slices.Contains(childrenOf(os.Getpid()), t.guard) { // graceful has reaped the guard
			t.ended[t.guard] = true
		}
	}
	if tid == t.guard {
		t.Ended = how
	}
	ours := tid == t.first || tid == t.guard || tid == t.parent
	switch {
	case ours:
		t.ended[tid] = true
	case k != nil || name == "": // k is a process of graceful, or tid a thread that is not the first
	case t.over:
		killDescendants() // the children that this killed process has started in the meantime
	case strings.Contains(name, "(graceful)"): // the successor of a killed graceful
		ours = true
	default:
		t.Left = append(t.Left, fmt.Sprintf("%s, which was reparented: %s", name, how))
	}
	if ours && !t.over && t.allEnded() {
		t.over = true
		t.Left = append(t.Left, killDescendants()...)
	}
}

// allEnded reports whether all processes of graceful have ended, and the parent, if the order has one.
func (t *tracing) allEnded() bool {
	for _, pid := range childrenOf(os.Getpid()) {
		if comm(pid) == "graceful" && !t.ended[pid] {
			return false
		}
	}
	return t.ended[t.first] && (t.guard == 0 || t.ended[t.guard]) && (t.parent == 0 || t.ended[t.parent])
}

// giveUp kills all processes that have not ended in time.
func (t *tracing) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Late, t.over = true, true
	t.Left = append(t.Left, killDescendants()...)
}

// terminateWhenReady waits for the file Ready of the order. Then it kills the parent, or sends the signals 300 ms
// later, or sends SIGTERM to the first process.
func (t *tracing) terminateWhenReady() {
	for ; ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(t.Ready); err != nil {
			continue
		}
		if t.Parent != "" {
			t.killParent()
			return
		}
		if t.Signals != nil {
			time.Sleep(300 * time.Millisecond)
			t.signal()
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.ended[t.first] {
			_ = unix.Kill(t.first, unix.SIGTERM)
		}
		return
	}
}

func ptrace(request, tid int, address, data uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), address, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
