//go:build unix && !linux

package tree

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

var errNoCgroups = errors.New("this system has no cgroups")

// AdoptOrphans returns an error: child subreapers exist on Linux only.
func AdoptOrphans() error {
	return errors.New("this system has no child subreaper: " +
		"processes that leave the target's process group cannot be found")
}

// CheckPidfds returns an error: pidfds exist on Linux only.
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

// FindCgroup returns an error: cgroups exist on Linux only.
func FindCgroup(string) (string, error) { return "", errNoCgroups }

// hasChildren returns true: a check would reap a child.
func hasChildren() bool { return true }
