package integration_test

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The functions below fork without exec, which is all that a storm needs. A child made so has one thread and half
// a runtime: it makes system calls and nothing else.

//go:norace
func rawFork() (child, ok bool) {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	return pid == 0 && errno == 0, errno == 0
}

//go:norace
func rawExit() { syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0) }

var hour, moment = unix.Timespec{Sec: 3600}, unix.Timespec{Nsec: 1e6}

//go:norace
func rawSleep(t *unix.Timespec) {
	syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(t)), 0, 0)
}

//go:norace
func rawStay() {
	for {
		rawSleep(&hour)
	}
}

//go:norace
func forks(n int) {
	for range n {
		if child, _ := rawFork(); child {
			rawExit()
		}
	}
}

// relay: at every moment n processes, none of which lives longer than it takes to fork. Each leaves its session.
//
//go:norace
func relay(n int) {
	for range n {
		if child, _ := rawFork(); !child {
			continue
		}
		for {
			syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
			if child, ok := rawFork(); ok && !child {
				rawExit()
			}
		}
	}
	rawStay()
}

// breed: every process forks as long as fewer than n have been born, then stays.
//
//go:norace
func breed(n int) {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	if err != nil {
		panic(err)
	}
	born := (*int64)(unsafe.Pointer(&page[0]))
	for atomic.AddInt64(born, 1) < int64(n) {
		rawFork()
	}
	rawStay()
}

// exhaust takes every process that it may have, and each that becomes free again.
func exhaust(file string) {
	n, told := 0, false
	for {
		child, ok := rawFork()
		if child {
			rawStay()
		}
		if ok {
			n++
			continue
		}
		if !told {
			write(file, n)
			told = true
		}
		rawSleep(&moment)
	}
}
