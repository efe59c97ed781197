//go:build amd64 || arm64

package integration_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// callNames contains the names of system calls that Go programs make on each architecture, by number. describe names a
// missing one by its number.
var callNames = map[uint64]string{
	unix.SYS_ACCEPT4:           "accept4",
	unix.SYS_BIND:              "bind",
	unix.SYS_BRK:               "brk",
	unix.SYS_CLOCK_GETTIME:     "clock_gettime",
	unix.SYS_CLOCK_NANOSLEEP:   "clock_nanosleep",
	unix.SYS_CLONE3:            "clone3",
	unix.SYS_CLONE:             "clone",
	unix.SYS_CLOSE:             "close",
	unix.SYS_CLOSE_RANGE:       "close_range",
	unix.SYS_CONNECT:           "connect",
	unix.SYS_DUP3:              "dup3",
	unix.SYS_EPOLL_CREATE1:     "epoll_create1",
	unix.SYS_EPOLL_CTL:         "epoll_ctl",
	unix.SYS_EPOLL_PWAIT:       "epoll_pwait",
	unix.SYS_EVENTFD2:          "eventfd2",
	unix.SYS_EXECVE:            "execve",
	unix.SYS_EXIT:              "exit",
	unix.SYS_EXIT_GROUP:        "exit_group",
	unix.SYS_FACCESSAT2:        "faccessat2",
	unix.SYS_FACCESSAT:         "faccessat",
	unix.SYS_FALLOCATE:         "fallocate",
	unix.SYS_FCHMOD:            "fchmod",
	unix.SYS_FCNTL:             "fcntl",
	unix.SYS_FDATASYNC:         "fdatasync",
	unix.SYS_FLOCK:             "flock",
	unix.SYS_FSTAT:             "fstat",
	unix.SYS_FSTATFS:           "fstatfs",
	unix.SYS_FSYNC:             "fsync",
	unix.SYS_FTRUNCATE:         "ftruncate",
	unix.SYS_FUTEX:             "futex",
	unix.SYS_GETCWD:            "getcwd",
	unix.SYS_GETDENTS64:        "getdents64",
	unix.SYS_GETEGID:           "getegid",
	unix.SYS_GETEUID:           "geteuid",
	unix.SYS_GETGID:            "getgid",
	unix.SYS_GETPGID:           "getpgid",
	unix.SYS_GETPID:            "getpid",
	unix.SYS_GETPPID:           "getppid",
	unix.SYS_GETRANDOM:         "getrandom",
	unix.SYS_GETSID:            "getsid",
	unix.SYS_GETSOCKOPT:        "getsockopt",
	unix.SYS_GETTID:            "gettid",
	unix.SYS_GETUID:            "getuid",
	unix.SYS_IOCTL:             "ioctl",
	unix.SYS_KILL:              "kill",
	unix.SYS_LINKAT:            "linkat",
	unix.SYS_LISTEN:            "listen",
	unix.SYS_LSEEK:             "lseek",
	unix.SYS_MADVISE:           "madvise",
	unix.SYS_MEMFD_CREATE:      "memfd_create",
	unix.SYS_MKDIRAT:           "mkdirat",
	unix.SYS_MMAP:              "mmap",
	unix.SYS_MPROTECT:          "mprotect",
	unix.SYS_MUNMAP:            "munmap",
	unix.SYS_NANOSLEEP:         "nanosleep",
	unix.SYS_NEWFSTATAT:        "newfstatat",
	unix.SYS_OPENAT:            "openat",
	unix.SYS_PIDFD_GETFD:       "pidfd_getfd",
	unix.SYS_PIDFD_OPEN:        "pidfd_open",
	unix.SYS_PIDFD_SEND_SIGNAL: "pidfd_send_signal",
	unix.SYS_PIPE2:             "pipe2",
	unix.SYS_PPOLL:             "ppoll",
	unix.SYS_PRCTL:             "prctl",
	unix.SYS_PREAD64:           "pread64",
	unix.SYS_PRLIMIT64:         "prlimit64",
	unix.SYS_PWRITE64:          "pwrite64",
	unix.SYS_READ:              "read",
	unix.SYS_READLINKAT:        "readlinkat",
	unix.SYS_RECVFROM:          "recvfrom",
	unix.SYS_RECVMSG:           "recvmsg",
	unix.SYS_RENAMEAT:          "renameat",
	unix.SYS_RESTART_SYSCALL:   "restart_syscall",
	unix.SYS_RT_SIGACTION:      "rt_sigaction",
	unix.SYS_RT_SIGPROCMASK:    "rt_sigprocmask",
	unix.SYS_RT_SIGRETURN:      "rt_sigreturn",
	unix.SYS_SCHED_GETAFFINITY: "sched_getaffinity",
	unix.SYS_SCHED_YIELD:       "sched_yield",
	unix.SYS_SENDMSG:           "sendmsg",
	unix.SYS_SENDTO:            "sendto",
	unix.SYS_SETPGID:           "setpgid",
	unix.SYS_SETSID:            "setsid",
	unix.SYS_SETSOCKOPT:        "setsockopt",
	unix.SYS_SIGALTSTACK:       "sigaltstack",
	unix.SYS_SOCKET:            "socket",
	unix.SYS_SOCKETPAIR:        "socketpair",
	unix.SYS_STATFS:            "statfs",
	unix.SYS_TGKILL:            "tgkill",
	unix.SYS_TIMER_CREATE:      "timer_create",
	unix.SYS_TIMER_DELETE:      "timer_delete",
	unix.SYS_TIMER_SETTIME:     "timer_settime",
	unix.SYS_UNAME:             "uname",
	unix.SYS_UNLINKAT:          "unlinkat",
	unix.SYS_WAIT4:             "wait4",
	unix.SYS_WAITID:            "waitid",
	unix.SYS_WRITE:             "write",
}

// localCalls lists the calls that change nothing outside of their process, and do not wait for another process. If a
// process is killed at such a call, the state is the same as after a kill at the next call that is not local.
var localCalls = map[string]bool{}

func init() {
	for _, name := range []string{
		"arch_prctl", "brk", "clock_gettime", "clock_nanosleep", "epoll_create1", "epoll_ctl", "eventfd2", "exit",
		"faccessat",
		"faccessat2", "fcntl", "fcntl DUPFD", "fstat", "fstatfs", "futex", "getcwd", "getdents64", "getegid", "geteuid",
		"getgid", "getpgid",
		"getpid", "getppid", "getrandom", "getsid", "getsockopt", "gettid", "getuid", "lseek", "madvise", "mmap", "mprotect",
		"munmap",
		"nanosleep", "newfstatat", "pread64", "prlimit64", "readlinkat", "restart_syscall", "rt_sigaction", "rt_sigprocmask",
		"rt_sigreturn", "sched_getaffinity", "sched_yield", "sigaltstack", "statfs", "timer_create", "timer_delete",
		"timer_settime", "uname",
	} {
		localCalls[name] = true
	}
}

// describe returns the name of the call that a thread is about to make. If the call has several operations, the name
// may include the operation. isLocal reports whether the call is local (see localCalls) with these arguments.
func describe(tid int, nr uint64, args [6]uint64) (name string, isLocal bool) {
	name, known := callNames[nr]
	if !known {
		return fmt.Sprint("call ", nr), false
	}
	switch nr {
	case unix.SYS_CLONE:
		return name, args[0]&unix.CLONE_THREAD != 0
	case unix.SYS_TGKILL:
		return name, syscall.Signal(args[2]) == unix.SIGURG // with SIGURG the runtime preempts a thread
	case unix.SYS_PRCTL:
		return name, args[0] == unix.PR_SET_VMA // with PR_SET_VMA the runtime names its memory
	case unix.SYS_OPENAT:
		return name, args[2]&(unix.O_CREAT|unix.O_TRUNC) == 0
	case unix.SYS_READ, unix.SYS_CLOSE:
		return name, isPlainFile(tid, int(args[0]))
	case unix.SYS_FCNTL:
		switch args[1] {
		case unix.F_DUPFD, unix.F_DUPFD_CLOEXEC:
			name += " DUPFD"
		case unix.F_SETLK, unix.F_OFD_SETLK:
			name += " SETLK"
		case unix.F_SETLKW, unix.F_OFD_SETLKW:
			name += " SETLKW"
		case unix.F_ADD_SEALS:
			name += " ADD_SEALS"
		}
	}
	return name, localCalls[name]
}

// isPlainFile reports whether a descriptor refers to a file that other processes do not watch: a file below /proc or
// /sys, or the program of the process.
func isPlainFile(tid, fd int) bool {
	file, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, fd))
	program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", tid))
	return strings.HasPrefix(file, "/proc/") || strings.HasPrefix(file, "/sys/") || file == program
}
