package process

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
)

// SetsIgnored reports whether Start ignores the signals of Spec.Ignored. If not, the caller must ignore them.
const SetsIgnored = true

// Start starts the process. Descriptors above 2 without FD_CLOEXEC stay open in it. Its soft limit of open files is the
// one that graceful was started with.
func (s Spec) Start() (pid int, err error) {
	p, err := s.parts()
	if err != nil {
		return 0, err
	}
	var report [2]int // closed by execve(2)
	if err := unix.Pipe2(report[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer unix.Close(report[0])
	b := newBlock(p.size())
	r := s.layOut(p, b)
	r.report = uintptr(report[1])
	r.start()
	runtime.KeepAlive(b)
	unix.Close(report[1])
	if r.errno != 0 {
		r.failure.errno = r.errno
		return 0, r.failure.err()
	}
	pid = int(r.result)
	if err := readFailure(report[0]); err != nil {
		Reap(pid)
		return 0, err
	}
	return pid, nil
}

// start forks the child, which becomes the program. Result and errno are those of the fork.
//
//go:norace
//go:nosplit
//go:noinline
func (r *request) start() {
	r.setMask(&allSignals, &r.before)
	r.fork()
	if r.result == 0 && r.errno == 0 {
		r.become()
	}
	pid, errno := r.result, r.errno
	r.setMask(&r.before, nil)
	r.result, r.errno = pid, errno
}

// readFailure returns why a child could not execute its program, or nil if it did.
func readFailure(report int) error {
	var f failure
	n, err := eintr.RetryValue(func() (int, error) {
		return unix.Read(report, (*[unsafe.Sizeof(f)]byte)(unsafe.Pointer(&f))[:])
	})
	if err != nil || n < int(unsafe.Sizeof(f)) {
		return nil
	}
	return f.err()
}

// err returns the error for a failure.
func (f failure) err() error {
	switch f.stage {
	case stageCgroup:
		return fmt.Errorf("%w: %w", ErrCgroup, f.errno)
	case stageDir:
		return fmt.Errorf("its working directory: %w", f.errno)
	}
	return f.errno
}
