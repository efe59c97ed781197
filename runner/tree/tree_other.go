//go:build unix && !linux

package tree

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

var errNoCgroups = errors.New("this system has no cgroups")

// AdoptOrphans returns an error, because child subreapers exist only on Linux.
func AdoptOrphans() error {
	return errors.New("this system has no child subreaper: " +
		"processes that leave the target's process group cannot be found")
}

// CheckPidfds returns an error, because pidfds exist only on Linux.
func CheckPidfds() error {
	return errors.New("this system has no pidfds: " +
		"between the target's end and a signal to its group, another group may get its id")
}

func (*Tree) signal(p procfs.Process, sig syscall.Signal) error { return unix.Kill(p.PID, sig) }

type cgroup string

func (cgroup) make() error     { return errNoCgroups }
func (cgroup) pids() []int     { return nil }
func (cgroup) populated() bool { return false }
func (cgroup) kill()           {}
func (cgroup) moveOut([]int)   {}
func (cgroup) disband() error  { return nil }

// FindCgroup returns an error, because cgroups exist only on Linux.
func FindCgroup(string) (string, error) { return "", errNoCgroups }

// hasChildren returns true, because a check would reap a child.
func hasChildren() bool { return true }
