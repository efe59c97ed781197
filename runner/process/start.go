// Package process starts processes and examines those that have ended. No other package forks. It does not know why a
// process is started.
package process

import (
	"errors"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// SelfExe is the executable of this process, even if its file was replaced.
const SelfExe = "/proc/self/exe"

// Errors of a start. They wrap the error of the system call.
var (
	ErrCgroup      = errors.New("entering its cgroup")
	ErrDir         = errors.New("its working directory")
	ErrInterpreter = errors.New("its interpreter or dynamic loader") // the program itself exists
)

// Spec describes a process to start. It leads a process group of its own.
type Spec struct {
	Program string // a path, or a name that is looked for in Search
	Search  string // PATH
	Argv    []string
	Env     []string
	Dir     string // working directory; "": graceful's. An empty directory replaces a missing one.
	Stdin   uintptr
	Stdout  uintptr          // 0: graceful's own
	Stderr  uintptr          // 0: graceful's own
	Keep    []int            // descriptors that it inherits under the same numbers
	Ignored []syscall.Signal // see SetsIgnored
	Blocked []syscall.Signal // its signal mask
	Cgroup  string           // directory of the cgroup that it starts in; "": graceful's

	Terminal   uintptr // descriptor of the terminal of its own session; 0: it stays in graceful's session
	Foreground bool    // its group is made the foreground group of the terminal at standard input
	PIDOfOurs  int     // a variable for a service that has this pid gets the pid of the process instead
}

// OutOfResources reports whether a lack of processes, memory or descriptors caused an error: a later try may succeed.
func OutOfResources(err error) bool {
	return slices.ContainsFunc([]error{unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE}, func(e error) bool {
		return errors.Is(err, e)
	})
}
