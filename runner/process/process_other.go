//go:build unix && !linux

package process

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/forward"
	"graceful/runner/machine"
)

// ReadInherited finds out whether SIGHUP and SIGINT were ignored when graceful was started. It cannot find out more,
// because the Go runtime has replaced the other dispositions and the mask.
func ReadInherited() Inherited {
	var in Inherited
	for sig := syscall.Signal(1); sig <= forward.Last; sig++ {
		if signal.Ignored(sig) {
			in.Ignored = append(in.Ignored, sig)
		}
	}
	return in
}

// EndBy ends this process by a signal, without a core dump. It returns only if the signal does not end this process.
func EndBy(sig syscall.Signal) {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	signal.Reset(sig)
	_ = unix.Kill(unix.Getpid(), sig)
	time.Sleep(time.Second)
}

// Peek reaps and returns a child that has ended, because wait4(2) cannot report the end without reaping. So another
// process group may get the id of the target's group before graceful signals the target's group.
func (*Children) Peek() (pid int, ending machine.Ending, childless bool) {
	var status unix.WaitStatus
	for {
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WUNTRACED, nil)
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

// ReapOrphan reaps no child, because on this system graceful does not adopt orphans.
func (*Children) ReapOrphan(int) (ending machine.Ending, ended bool) { return machine.Ending{}, false }

// stops maps the pid of a child to the signal that has suspended the child. Peek fills the map, because wait4(2)
// reports suspensions, too.
var stops = map[int]syscall.Signal{}

// SuspendedBy returns the signal that has suspended a child since the last call, or 0.
func (*Children) SuspendedBy(child int) syscall.Signal {
	sig := stops[child]
	delete(stops, child)
	return sig
}

// UsageOf returns nil, because a child that has ended is reaped already.
func (*Children) UsageOf(int) *machine.Usage { return nil }

// Unblock does nothing, because package os/signal unblocks the signals that it catches.
func Unblock([]syscall.Signal) {}

// DropSentFaults does nothing: on this system PID 1 is the init of the system.
func DropSentFaults() {}

// SinceBoot returns the time since 1970. The value is compared only with other values of this process, because on this
// system no process resumes a run from a ledger.
func SinceBoot() time.Duration { return time.Duration(time.Now().UnixNano()) }

// SetsIgnored reports whether a start makes the new process ignore the signals of Spec.Ignored. If not, the caller
// itself must ignore these signals, and the process inherits that.
const SetsIgnored = false

// Children starts child processes of this process.
type Children struct{ dirGone map[int]bool } // pids of processes that run in an empty directory: see StartOf

// OpenChildren returns an empty Children.
func OpenChildren() (*Children, error) { return &Children{map[int]bool{}}, nil }

// Start starts a process. The process inherits descriptors above 2 without FD_CLOEXEC, the signals that are ignored
// now, and LISTEN_PID unchanged. A file system that does not answer blocks Start.
func (c *Children) Start(s Spec, _ int) (pid int, err error) {
	if s.Cgroup != "" {
		return 0, fmt.Errorf("%w: %w", ErrCgroup, errors.ErrUnsupported)
	}
	err = checkDir(s.Dir)
	gone := err == unix.ENOENT || err == unix.ENOTDIR
	if gone {
		s.Dir, err = os.MkdirTemp("", "graceful-")
		defer os.Remove(s.Dir)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDir, err)
	}
	path, err := LookPath(s.Program, pathWithin(s.Dir, s.Search))
	if err != nil {
		return 0, err
	}
	attr := &syscall.SysProcAttr{Setpgid: true, Foreground: s.Foreground}
	files := []uintptr{s.Stdin, cmp.Or(s.Stdout, 1), cmp.Or(s.Stderr, 2)}
	if s.Terminal != 0 {
		attr, files = &syscall.SysProcAttr{Setsid: true, Setctty: true}, []uintptr{s.Terminal, s.Terminal, s.Terminal}
	}
	pid, err = syscall.ForkExec(path, s.Argv, &syscall.ProcAttr{Env: s.Env, Dir: s.Dir, Files: files, Sys: attr})
	if err == unix.ENOENT && unix.Access(path, unix.F_OK) == nil {
		err = fmt.Errorf("%w: %w", ErrInterpreter, err)
	}
	if gone && err == nil {
		c.dirGone[pid] = true
	}
	return pid, err
}

// checkDir returns an error if a process cannot be started in a directory. ForkExec would return the same error for a
// missing directory as for a missing program.
func checkDir(dir string) error {
	if dir == "" {
		return nil
	}
	switch st, err := os.Stat(dir); {
	case err != nil:
		return errors.Unwrap(err)
	case !st.IsDir():
		return unix.ENOTDIR
	}
	return unix.Access(dir, unix.X_OK)
}

// pathWithin resolves the relative directories of a PATH in dir. An empty dir means graceful's own directory.
func pathWithin(dir, path string) string {
	if dir == "" {
		return path
	}
	list := strings.Split(path, ":")
	for i, in := range list {
		if !strings.HasPrefix(in, "/") {
			list[i] = dir + "/" + in
		}
	}
	return strings.Join(list, ":")
}

// Reap does nothing, because Peek has reaped the child.
func (*Children) Reap(int) {}

// StartOf reports whether a process ran in an empty directory because its own directory no longer existed. err is nil,
// because Start itself reports failures.
func (c *Children) StartOf(pid int) (dirGone bool, err error) {
	dirGone = c.dirGone[pid]
	delete(c.dirGone, pid)
	return dirGone, nil
}

// ReadInheritedError returns an error, because ReadInherited misses most signals.
func ReadInheritedError() error {
	return errors.New("of the ignored signals only HUP and INT are known here")
}

// makeNull returns a descriptor that reads as end of file. A write to it fails, without a signal.
func makeNull() (*os.File, error) { return EmptyInput() }

// ErrGuardEnded means that the guard has ended.
var ErrGuardEnded = errors.New("the guard has ended")

// Guard is never used on this system, because the guard must be a child subreaper (Linux).
type Guard struct{}

// Succession is the data from which the guard starts a new graceful.
type Succession struct {
	KeptFDs     []int
	MayLeaveDir bool
	Forwarded   []syscall.Signal
	Successor   func(link, memory int) Spec
}

// StartGuard fails, because there is no guard on this system.
func StartGuard(Succession) (*Guard, error) { return nil, errors.ErrUnsupported }

// OpenGuard fails, because there is no guard on this system.
func OpenGuard(int, int) (*Guard, error) { return nil, errors.ErrUnsupported }

// The methods below only make the package compile. They are never called.
func (*Guard) Close()                            {}
func (*Guard) ContinueAtEnd(bool)                {}
func (*Guard) Ended() bool                       { return true }
func (*Guard) IsChild() bool                     { return true }
func (*Guard) DropSignals([]syscall.Signal)      {}
func (*Guard) KillChildren()                     {}
func (*Guard) Lead()                             {}
func (*Guard) Orphans() int                      { return 0 }
func (*Guard) PID() int                          { return 0 }
func (*Guard) Peek() (int, machine.Ending, bool) { return 0, machine.Ending{}, true }
func (*Guard) Reap(int)                          {}
func (*Guard) Replaced(int) (bool, bool)         { return false, false }
func (*Guard) Start(Spec, int) (int, error)      { return 0, errors.ErrUnsupported }
func (*Guard) Started() map[int]int              { return nil }
func (*Guard) StartOf(int) (bool, error)         { return false, nil }
func (*Guard) SuspendedBy(int) syscall.Signal    { return 0 }
func (*Guard) UsageOf(int) *machine.Usage        { return nil }
func (*Guard) WasParentOf(int) bool              { return false }
func (*Guard) RecordSuspensions()                {}

// CheckSize returns nil, because the limit of this system is unknown.
func CheckSize(args, env []string) error { return nil }

// Priority is empty, because graceful does not change priorities on this system.
type Priority struct{}

// RaisePriority does nothing.
func RaisePriority() (p Priority) { return p }

// Restore does nothing.
func (Priority) Restore() {}

// ManyEnds has no effect on this system, because there is no guard.
const ManyEnds = 64
