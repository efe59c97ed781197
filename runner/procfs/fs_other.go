//go:build unix && !linux

package procfs

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// FS is empty, because only Linux has a proc(5) in Linux's form. On other systems graceful cannot find descendants, and
// the members of a run are the processes of the target's group.
type FS struct{}

// Dir returns -1.
func Dir() int { return -1 }

// Inherit does nothing.
func Inherit(int) {}

// SetName does nothing.
func SetName(string) {}

// IsBelow returns false.
func IsBelow(int, int) bool { return false }

// Open returns nil and an error, because this system has no proc(5) in Linux's form.
func Open() (*FS, error) { return nil, syscall.ENOSYS }

func (*FS) HasChildren() bool                           { return false }
func (*FS) Adopted(int) []int                           { return nil }
func (*FS) SetBusy(int)                                 {}
func (*FS) SetScanLimit(time.Time)                      {}
func (*FS) IsLate() bool                                { return false }
func (*FS) Read(int) (Process, bool)                    { return Process{}, false }
func (*FS) All() []Process                              { return nil }
func (*FS) Children(int) []int                          { return nil }
func (*FS) Descendants(int, []int) []Process            { return nil }
func (*FS) Walk(int, []int, func(pid, parent int) bool) {}
func (*FS) Now() Moment                                 { return Moment{} }
func (*FS) Ignores(int, syscall.Signal) bool            { return false }
func (*FS) UserOf(int) int                              { return -1 }
func (*FS) RunsOwnExecutable(int) bool                  { return false }
func (*FS) Environ(int, string) (string, bool)          { return "", false }
func (*FS) Environs([]int, string) map[int]string       { return nil }
func (*FS) SeesAll() bool                               { return false }
func (*FS) Within(string) (map[int]Process, bool)       { return nil, true }
func (*FS) Holders(string, unix.Stat_t) []Process       { return nil }

// IsFollowedByInit returns false, because this system has no PID namespaces.
func IsFollowedByInit() bool { return false }

// Boot returns "", because the boot is unknown on this system.
func Boot() string { return "" }
