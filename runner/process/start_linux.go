package process

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/eintr"
	"graceful/runner/process/atstart"
)

// SetsIgnored reports whether Start ignores the signals of Spec.Ignored. If not, the caller must ignore them.
const SetsIgnored = true

// Start starts the process. Descriptors above 2 without FD_CLOEXEC stay open in it. Its soft limit of open files is the
// one that graceful was started with.
func (s Spec) Start() (pid int, err error) {
	var report [2]int // closed by execve(2)
	if err := unix.Pipe2(report[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer unix.Close(report[0])
	c, err := s.child(report[1])
	if err == nil {
		pid, err = c.forkIn(s.Cgroup)
		runtime.KeepAlive(c)
	}
	unix.Close(report[1])
	if err != nil {
		return 0, err
	}
	if err := readFailure(report[0]); err != nil {
		Reap(pid)
		return 0, err
	}
	return pid, nil
}

// child prepares all that a child needs before it is forked.
func (s Spec) child(report int) (*child, error) {
	c := &child{
		report: uintptr(report), stdio: [3]uintptr{s.Stdin, 1, 2}, newSession: s.Terminal != 0, foreground: s.Foreground,
		cgroup: -1, ignored: setOf(s.Ignored), blocked: setOf(s.Blocked),
	}
	if c.newSession {
		c.stdio = [3]uintptr{s.Terminal, s.Terminal, s.Terminal}
	}
	for _, fd := range s.Keep {
		c.keep = append(c.keep, int32(fd))
	}
	if atstart.FilesKnown && unix.Getrlimit(unix.RLIMIT_NOFILE, &c.now) == nil && c.now == raised {
		c.files, c.present = (*unix.Rlimit)(&atstart.Files), &c.now
	}
	texts, err := syscall.SlicePtrFromStrings([]string{s.Path, s.Dir})
	if err != nil {
		return nil, err
	}
	c.path = texts[0]
	if s.Dir != "" {
		c.dir = texts[1]
	}
	argv, err := syscall.SlicePtrFromStrings(s.Argv)
	if err != nil {
		return nil, err
	}
	env := slices.Clone(s.Env)
	var pids []int // indexes of the variables that hold the pid
	for i, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if slices.Contains(pidVariables, name) && value == strconv.Itoa(s.PIDOfOurs) {
			env[i] = name + "=" + strings.Repeat(" ", maxPIDLength)
			pids = append(pids, i)
		}
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return nil, err
	}
	for _, i := range pids {
		at := unsafe.Add(unsafe.Pointer(envp[i]), strings.IndexByte(env[i], '=')+1)
		c.pids = append(c.pids, (*byte)(at))
	}
	script, err := syscall.SlicePtrFromStrings([]string{cleanup.Shell, s.Path})
	if err != nil {
		return nil, err
	}
	script = append(script[:2], argv[min(1, len(s.Argv)):]...)
	c.argv, c.env, c.script = &argv[0], &envp[0], &script[0]
	return c, nil
}

// raised is RLIMIT_NOFILE as package syscall has raised it. Where it was changed since, it is the caller's will.
var raised = func() (limit unix.Rlimit) {
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return limit
}()

// pidVariables hold the pid of the process that they are meant for (sd_listen_fds(3), sd_watchdog_enabled(3)).
var pidVariables = []string{"LISTEN_PID", "WATCHDOG_PID"}

// maxPIDLength is the room for a pid in decimal and the byte after it. PID_MAX_LIMIT is 4194304.
const maxPIDLength = 8

func setOf(signals []syscall.Signal) (set uint64) {
	for _, sig := range signals {
		set |= 1 << (sig - 1)
	}
	return set
}

// forkIn forks the child, in a cgroup unless that is empty.
func (c *child) forkIn(cgroup string) (pid int, err error) {
	if cgroup != "" {
		into, err := unix.Open(cgroup, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrCgroup, err)
		}
		defer unix.Close(into)
		c.into = cloneArgs{flags: unix.CLONE_INTO_CGROUP, exitSignal: uint64(unix.SIGCHLD), cgroup: uint64(into)}
		pid, errno := c.fork(true)
		if errno == 0 || OutOfResources(errno) {
			return int(pid), errnoOf(errno)
		}
		// A seccomp filter may refuse clone3(2). Then the child moves itself.
		if c.cgroup, err = unix.Openat(into, "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrCgroup, err)
		}
		defer unix.Close(c.cgroup)
	}
	forked, errno := c.fork(false)
	return int(forked), errnoOf(errno)
}

// errnoOf returns the error, or nil for 0.
func errnoOf(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// readFailure returns why a child could not execute its program, or nil if it did.
func readFailure(report int) error {
	var f failure
	n, err := eintr.RetryValue(func() (int, error) {
		return unix.Read(report, (*[unsafe.Sizeof(f)]byte)(unsafe.Pointer(&f))[:])
	})
	switch {
	case err != nil || n < int(unsafe.Sizeof(f)):
		return nil
	case f.stage == stageCgroup:
		return fmt.Errorf("%w: %w", ErrCgroup, f.errno)
	case f.stage == stageDir:
		return fmt.Errorf("its working directory: %w", f.errno)
	}
	return f.errno
}
