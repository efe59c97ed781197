//go:build unix && !linux

package tree

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// procfs is Linux's alone: elsewhere descendants cannot be found, and the group is all there is.
type procfs struct{}

func openProc() *procfs { return nil }

func (*procfs) read(int) (Process, bool)         { return Process{}, false }
func (*procfs) all() []Process                   { return nil }
func (*procfs) children(int) []int               { return nil }
func (*procfs) descendants(int, []int) []Process { return nil }
func (*procfs) walk(int, []int, func(_, _ int))  {}

func (*procfs) moment() moment                   { return moment{} }
func (*procfs) ignores(int, syscall.Signal) bool { return false }

func (*procfs) marked(int, string) bool            { return false }
func (*procfs) runsUs(int) bool                    { return false }
func (*procfs) environ(int, string) (string, bool) { return "", false }

// AdoptOrphans fails.
func AdoptOrphans() error { return becomeSubreaper() }

// Boot is unknown.
func Boot() string { return "" }

func becomeSubreaper() error {
	return errors.New("this system has no child subreaper: what leaves the target's process group cannot be found")
}

func (*Tree) signal(p Process, sig syscall.Signal) error { return unix.Kill(p.PID, sig) }
