// Package process starts processes, and looks at those that have ended. It is the only package that forks; it does not
// know why a process is started.
package process

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/sigstate"
)

// SelfExe is the program of this process, also when its file has been replaced meanwhile.
const SelfExe = "/proc/self/exe"

// ErrCgroup tells that a process could not be started in its cgroup.
var ErrCgroup = errors.New("entering its cgroup")

// Spec is a process to be started, as the leader of a process group of its own.
type Spec struct {
	Path    string
	Argv    []string
	Env     []string
	Dir     string // working directory; "": ours
	Stdin   uintptr
	Keep    []int            // descriptors of ours that it inherits, under their numbers
	Blocked []syscall.Signal // its signal mask
	Cgroup  string           // directory of the cgroup that it starts in; "": ours

	Terminal   uintptr // descriptor of a terminal of its own; 0: it has ours, if there is one
	Foreground bool    // its group is to be the terminal's foreground group: takes the shim

	// What else only the shim can set.
	IgnoreChild bool   // SIGCHLD is ignored
	PIDOfOurs   int    // the pid that variables like LISTEN_PID hold in the place of its own
	enter       string // directory of the cgroup that it enters by itself; "": none
}

// Start starts the process. Descriptors above 2 that are not ours stay open in it.
func (s Spec) Start() (pid int, err error) {
	// A child has the signal mask of the thread that forks it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer sigstate.SetMask(s.Blocked...)()
	for _, fd := range s.Keep { // no other goroutine forks meanwhile
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return 0, err
		}
		defer unix.CloseOnExec(fd)
	}
	attr, files := &syscall.SysProcAttr{Setpgid: true}, []uintptr{s.Stdin, 1, 2}
	if s.Terminal != 0 { // in a session of its own, and so in a group of its own
		attr, files = &syscall.SysProcAttr{Setsid: true, Setctty: true}, []uintptr{s.Terminal, s.Terminal, s.Terminal}
	}
	if s.Cgroup != "" {
		done, err := startIn(s.Cgroup, attr)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrCgroup, err)
		}
		defer done()
	}
	return syscall.ForkExec(s.Path, s.Argv, &syscall.ProcAttr{Env: s.Env, Dir: s.Dir, Files: files, Sys: attr})
}

// OutOfResources reports whether an error is for want of processes, memory or descriptors: trying again later may help.
func OutOfResources(err error) bool {
	return slices.ContainsFunc([]error{unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE}, func(e error) bool {
		return errors.Is(err, e)
	})
}
