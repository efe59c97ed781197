//go:build unix && !linux

package tree

import (
	"errors"
	"syscall"
)

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
