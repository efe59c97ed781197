// Package process starts processes and examines those that have ended. No other package forks. Of the purpose of a
// process, package process knows only whether it is the target, a command, or a process of graceful.
package process

import (
	"errors"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// SelfExe is the path of this process's executable. It leads there even if the file was replaced.
const SelfExe = "/proc/self/exe"

// The error of a failed start may wrap one of these errors, together with the error of the system call.
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
	Ignored []syscall.Signal // see SetsIgnored
	Blocked []syscall.Signal // signal mask of the process
	Cgroup  string           // directory of the cgroup that it starts in; "": graceful's

	Terminal   uintptr // descriptor of the terminal for a session of its own; 0: the process stays in graceful's session
	Foreground bool    // the group of the process becomes the foreground group of the terminal at standard input
	OwnPID     int     // a variable for a service that contains this pid gets the pid of the process instead
}

// OutOfResources reports whether a lack of processes, memory or descriptors caused an error. Then a later attempt may
// succeed.
func OutOfResources(err error) bool {
	return slices.ContainsFunc([]error{unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE}, func(e error) bool {
		return errors.Is(err, e)
	})
}
