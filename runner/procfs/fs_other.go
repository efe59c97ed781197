//go:build unix && !linux

package procfs

import "syscall"

// FS exists on Linux only. Elsewhere descendants cannot be found: a run has its process group and nothing else.
type FS struct{}

// Open returns nil: this system has no proc(5) of Linux's form.
func Open() *FS { return nil }

func (*FS) HasChildren() bool                      { return false }
func (*FS) Busy(int)                               {}
func (*FS) Read(int) (Process, bool)               { return Process{}, false }
func (*FS) All() []Process                         { return nil }
func (*FS) Children(int) []int                     { return nil }
func (*FS) Descendants(int, []int) []Process       { return nil }
func (*FS) Walk(int, []int, func(pid, parent int)) {}
func (*FS) Now() Moment                            { return Moment{} }
func (*FS) Ignores(int, syscall.Signal) bool       { return false }
func (*FS) Marked(int, string) bool                { return false }
func (*FS) RunsUs(int) bool                        { return false }
func (*FS) Environ(int, string) (string, bool)     { return "", false }

// Boot returns "": it is unknown here.
func Boot() string { return "" }
