// Package process starts processes, and looks at those that have ended. It is the only package that forks. It does not
// know why a process is started.
package process

import (
	"errors"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// SelfExe is the program of this process, also when its file has been replaced meanwhile.
const SelfExe = "/proc/self/exe"

// Errors of a start, which wrap the one of the system call.
var (
	ErrCgroup      = errors.New("entering its cgroup")
	ErrDir         = errors.New("its working directory")
	ErrInterpreter = errors.New("its interpreter or dynamic loader") // the program itself is there
)

// Spec is a process to be started, as the leader of a process group of its own.
type Spec struct {
	Program string // a path, or a name that is looked for in Search
	Search  string // PATH
	Argv    []string
	Env     []string
	Dir     string // working directory; "": graceful's. One that is gone is replaced by an empty directory.
	Stdin   uintptr
	Stdout  uintptr          // 0: graceful's own, which is 1
	Stderr  uintptr          // 0: graceful's own, which is 2
	Keep    []int            // descriptors that it inherits under their numbers
	Ignored []syscall.Signal // see SetsIgnored
	Blocked []syscall.Signal // its signal mask
	Cgroup  string           // directory of the cgroup that it starts in; "": graceful's

	Terminal   uintptr // descriptor of the terminal of a session of its own; 0: it is in graceful's session
	Foreground bool    // its group is made the foreground group of the terminal at standard input
	PIDOfOurs  int     // where a variable for a service has this pid, it is replaced by that of the process
}

// OutOfResources reports whether an error is for want of processes, memory or descriptors: trying again later may help.
func OutOfResources(err error) bool {
	return slices.ContainsFunc([]error{unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE}, func(e error) bool {
		return errors.Is(err, e)
	})
}
