package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawFork forks without exec, which is enough for a storm of processes. child is true in the child, and ok is false if
// the fork failed. The child has one thread and only a part of the Go runtime. It may only make system calls.
//
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

// relay starts n chains of processes, and stays. Each process of a chain leaves its session, forks, and ends.
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

// breed forks in every process until there are n processes. All of them stay.
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

// exhaust creates as many processes as it may. At the first failure it writes their number to a file, and prints a
// line. Whenever it may create another process later, it does so.
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
			fmt.Println("exhausted")
			told = true
		}
		rawSleep(&moment)
	}
}

// Roles for Linux:
//
//	reap PROGRAM [ARG...]   as PID 1: runs the program, waits until no other process is left, alive or zombie, and ends
//	                        with the status of the program
//	provoke-oom-kill VICTIM allocates memory until the kernel kills its parent (grandparent, great-grandparent) for
//	                        lack of memory; then frees the memory, and stays
//	lose-thread WHICH PROGRAM [ARG...]
//	                        starts a program from a thread that then ends: WHICH is "first" for the first thread of the
//	                        process, or "other"; writes the file lost, and stays
func init() {
	roles["reap"], roles["provoke-oom-kill"], roles["lose-thread"] = reap, provokeOOMKill, loseThread
}

func loseThread(args []string) int {
	path, err := exec.LookPath(args[1])
	if err != nil {
		panic(err)
	}
	lost := make(chan int)
	lose := func() {
		runtime.LockOSThread()
		attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}}
		if _, err := syscall.ForkExec(path, args[1:], attr); err != nil {
			panic(err)
		}
		lost <- unix.Gettid()
		_, _, _ = syscall.Syscall(unix.SYS_EXIT, 0, 0, 0) // the runtime would not end the first thread
	}
	wait := func() {
		tid := <-lost
		for processState(tid) != "" && processState(tid) != "Z" {
			time.Sleep(time.Millisecond)
		}
		write("lost", tid)
		stay()
	}
	if args[0] == "first" {
		go wait()
		lose()
	}
	go lose()
	wait()
	return 0
}

// reap returns the exit status of the program in the form that a shell uses. Every orphan of the namespace is
// reparented to PID 1. So a PID 1 without a child is the only process of the namespace.
func reap(args []string) (status int) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		panic(err)
	}
	program, err := syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		panic(err)
	}
	for {
		var how syscall.WaitStatus
		switch pid, err := syscall.Wait4(-1, &how, 0, nil); {
		case err == syscall.EINTR, err == nil && pid != program:
		case err != nil:
			return status
		case how.Signaled():
			status = 128 + int(how.Signal())
		default:
			status = how.ExitStatus()
		}
	}
}

// provokeOOMKill makes an ancestor, the victim, the first choice of the out-of-memory killer. Then it allocates memory
// until the kernel has killed the victim and freed its memory. It allocates no more from that moment on, because
// otherwise the kernel may kill another process.
func provokeOOMKill(args []string) int {
	victim := os.Getppid()
	for range strings.Count(args[0], "grand") + strings.Count(args[0], "great") {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", victim))
		_, rest, _ := strings.Cut(string(stat), ") ")
		victim, _ = strconv.Atoi(strings.Fields(rest)[1])
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", victim), []byte("1000"), 0o644); err != nil {
		panic(err)
	}
	var eaten [][]byte
	for {
		pages, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", victim))
		if err != nil || strings.HasPrefix(string(pages), "0 ") {
			break
		}
		bite, err := unix.Mmap(-1, 0, 16*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			panic(err)
		}
		for i := 0; i < len(bite); i += os.Getpagesize() {
			bite[i] = 1
		}
		eaten = append(eaten, bite)
	}
	for _, bite := range eaten {
		_ = unix.Munmap(bite)
	}
	stay()
	return 0
}
