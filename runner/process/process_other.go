//go:build unix && !linux

package process

import (
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/forward"
	"graceful/runner/machine"
)

// ReadInherited knows SIGHUP and SIGINT only: the Go runtime has replaced the other dispositions.
func ReadInherited() Inherited {
	var in Inherited
	for sig := syscall.Signal(1); sig <= forward.Last; sig++ {
		if signal.Ignored(sig) {
			in.Ignored = append(in.Ignored, sig)
		}
	}
	return in
}

// EndBy ends this process by a signal, without a core dump. It returns when it cannot.
func EndBy(sig syscall.Signal) {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	signal.Reset(sig)
	_ = unix.Kill(unix.Getpid(), sig)
	time.Sleep(time.Second)
}

// Peek reaps a child that has ended: there is no look without reaping here. Between the end of the target and the
// signal to its group, another group may get its number.
func Peek() (pid int, ending machine.Ending, childless bool) { return wait(-1) }

// PeekAt is Peek for one child.
func PeekAt(pid int) (ending machine.Ending, ended bool) {
	found, ending, _ := wait(pid)
	return ending, found != 0
}

func wait(id int) (pid int, ending machine.Ending, childless bool) {
	var status unix.WaitStatus
	for {
		pid, err := unix.Wait4(id, &status, unix.WNOHANG|unix.WUNTRACED, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || pid <= 0:
			return 0, machine.Ending{}, err == unix.ECHILD
		case status.Stopped():
			stops[pid] = status.StopSignal()
			continue
		case status.Signaled():
			return pid, machine.Ending{Signal: int(status.Signal())}, false
		}
		return pid, machine.Ending{Code: status.ExitStatus()}, false
	}
}

// stops are the signals by which children were suspended. wait takes these changes, too.
var stops = map[int]syscall.Signal{}

// SuspendedBy returns the signal that has suspended a child since the last call, or 0.
func SuspendedBy(child int) syscall.Signal {
	sig := stops[child]
	delete(stops, child)
	return sig
}

// Reap does nothing: Peek has reaped the child.
func Reap(int) {}

// UsageOf returns nil: a child that has ended was reaped.
func UsageOf(int) *machine.Usage { return nil }

// Unblock does nothing: package os/signal unblocks what is caught.
func Unblock([]syscall.Signal) {}

// DropSentFaults does nothing: PID 1 is the system's own here.
func DropSentFaults() {}

// SinceBoot is a clock for one process: no process resumes a run from a ledger here.
func SinceBoot() time.Duration { return time.Duration(time.Now().UnixNano()) }

// SetsIgnored reports whether Start ignores the signals of Spec.Ignored. If not, the caller must ignore them.
const SetsIgnored = false

// Start starts the process. Descriptors above 2 that are not ours stay open in it. It inherits the signals that are
// ignored now, and LISTEN_PID as it is.
func (s Spec) Start() (pid int, err error) {
	if s.Cgroup != "" {
		return 0, fmt.Errorf("%w: %w", ErrCgroup, errors.ErrUnsupported)
	}
	for _, fd := range s.Keep { // no other goroutine forks meanwhile
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return 0, err
		}
		defer unix.CloseOnExec(fd)
	}
	attr := &syscall.SysProcAttr{Setpgid: true, Foreground: s.Foreground}
	files := []uintptr{s.Stdin, 1, 2}
	if s.Terminal != 0 {
		attr, files = &syscall.SysProcAttr{Setsid: true, Setctty: true}, []uintptr{s.Terminal, s.Terminal, s.Terminal}
	}
	return syscall.ForkExec(s.Path, s.Argv, &syscall.ProcAttr{Env: s.Env, Dir: s.Dir, Files: files, Sys: attr})
}

// Unreadable says what ReadInherited misses.
func Unreadable() error { return errors.New("of the ignored signals only HUP and INT are known here") }

// ErrGuardEnded means that the guard has ended.
var ErrGuardEnded = errors.New("the guard has ended")

// Guard is a process that this system cannot have: it takes signalfd(2) and a child subreaper.
type Guard struct{}

// Succession is what the guard needs for its work after the death of graceful.
type Succession struct {
	Keep      []int
	Passes    []syscall.Signal
	Successor func(link, memory int) Spec
}

// StartGuard returns an error.
func StartGuard(Succession) (*Guard, error) { return nil, errors.ErrUnsupported }

// OpenGuard returns an error.
func OpenGuard(int, int) (*Guard, error) { return nil, errors.ErrUnsupported }

// These are never called.
func (*Guard) Close()                            {}
func (*Guard) ContinueAtEnd(bool)                {}
func (*Guard) Ended() bool                       { return true }
func (*Guard) IsChild() bool                     { return true }
func (*Guard) KillChildren()                     {}
func (*Guard) Lead()                             {}
func (*Guard) Orphans() int                      { return 0 }
func (*Guard) PID() int                          { return 0 }
func (*Guard) Peek() (int, machine.Ending, bool) { return 0, machine.Ending{}, true }
func (*Guard) Reap(int)                          {}
func (*Guard) Start(Spec, int) (int, error)      { return 0, errors.ErrUnsupported }
func (*Guard) Started() map[int]int              { return nil }
func (*Guard) SuspendedBy(int) syscall.Signal    { return 0 }
func (*Guard) UsageOf(int) *machine.Usage        { return nil }
func (*Guard) WasParentOf(int) bool              { return false }
func (*Guard) Watch()                            {}
