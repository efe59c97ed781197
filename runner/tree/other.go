//go:build unix && !linux

package tree

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/procfs"
)

// AdoptOrphans fails.
func AdoptOrphans() error { return becomeSubreaper() }

func becomeSubreaper() error {
	return errors.New("this system has no child subreaper: what leaves the target's process group cannot be found")
}

func (*Tree) signal(p procfs.Process, sig syscall.Signal) error { return unix.Kill(p.PID, sig) }

var errNoCgroups = errors.New("this system has no cgroups, which are Linux's")

// FindCgroup fails.
func FindCgroup(string) (string, error) { return "", errNoCgroups }

type cgroup string

func (cgroup) make() error     { return errNoCgroups }
func (cgroup) pids() []int     { return nil }
func (cgroup) populated() bool { return false }
func (cgroup) kill()           {}
func (cgroup) disband() error  { return nil }

// StartIn fails.
func StartIn(string, *syscall.SysProcAttr) (done func(), err error) { return nil, errNoCgroups }

// Enter fails.
func Enter(string) error { return errNoCgroups }

// Sight is what can be seen of a tree.
type Sight struct{ Proc, Lists, Others bool }

// Sight tells that nothing can be seen.
func (*Tree) Sight() Sight { return Sight{} }

// Pins tells why nobody can be sure whom a signal reaches.
func Pins() error {
	return errors.New("between the end of the program and the signal to its group nothing keeps another group from taking its number")
}
