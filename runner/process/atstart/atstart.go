// Package atstart reads values that the initialisation of package syscall changes. It imports only runtime, so it is
// initialised before syscall: of the packages whose imports are initialised, the one whose path sorts first is next.
package atstart

import (
	"runtime"
	"unsafe"
)

// Files is the value of RLIMIT_NOFILE at the start of graceful, if FilesKnown is true. Package syscall raises the soft
// limit later.
var Files, FilesKnown = files()

// Limit has the layout of struct rlimit64 of prlimit(2).
type Limit struct{ Cur, Max uint64 }

func files() (limit Limit, known bool) {
	const nofile = 7 // RLIMIT_NOFILE
	number := map[string]uintptr{
		"amd64": 302, "arm64": 261, "arm": 369, "386": 340, "riscv64": 261, "ppc64le": 325, "ppc64": 325, "s390x": 334,
		"loong64": 261,
	}[runtime.GOARCH]
	if runtime.GOOS != "linux" || number == 0 {
		return limit, false
	}
	_, _, errno := rawSyscall6(number, 0, nofile, 0, uintptr(unsafe.Pointer(&limit)), 0, 0)
	return limit, errno == 0
}

//go:linkname rawSyscall6 syscall.RawSyscall6
func rawSyscall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2, errno uintptr)
