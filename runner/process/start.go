// Package process starts processes and examines those that have ended. No other package forks. Of the purpose of a
// process, package process knows only whether it is the target, a command, or a process of graceful.
package process

import (
	"errors"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// SelfExe is the path of this process's executable on Linux. It leads to the executable even if the file was replaced.
const SelfExe = "/proc/self/exe"

// The error of a failed start may wrap one of these errors, together with the error of a system call.
var (
	ErrCgroup      = errors.New("entering its cgroup")
	ErrDir         = errors.New("its working directory")
	ErrInterpreter = errors.New("its interpreter or dynamic loader") // the program itself exists
)

// Spec describes a process to start. The process leads its own process group.
type Spec struct {
	Program string // a path, or a name that the start looks up in Search
	Search  string // a value of PATH
	Argv    []string
	Env     []string
	Dir     string // working directory; "": graceful's. An empty directory replaces a missing one.
	Stdin   uintptr
	Stdout  uintptr          // 0: graceful's own
	Stderr  uintptr          // 0: graceful's own
	KeptFDs []int            // descriptors that the process inherits under the same numbers
	Ignored []syscall.Signal // signals that the process ignores; see SetsIgnored
	Blocked []syscall.Signal // signal mask of the process
	Cgroup  string           // directory of the cgroup in which the process starts; "": graceful's cgroup

	// Terminal is the descriptor of a terminal. The process leads a session with that terminal, which is also its
	// standard input, output and error. 0: the process stays in graceful's session.
	Terminal   uintptr
	Foreground bool // the group of the process becomes the foreground group of the terminal at standard input
	OwnPID     int  // graceful's pid; LISTEN_PID and similar variables with this value get the pid of the process
}

// OutOfResources reports whether a lack of processes, memory or descriptors caused an error. Then a later attempt may
// succeed.
func OutOfResources(err error) bool {
	return slices.ContainsFunc([]error{unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE}, func(e error) bool {
		return errors.Is(err, e)
	})
}
