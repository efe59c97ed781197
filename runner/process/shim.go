package process

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/sigstate"
)

// ShimName is the argv[0] by which this program knows that it is to become the target.
//
// Some things can be set only in the process that becomes the target: variables that hold its pid (LISTEN_PID,
// sd_listen_fds(3); WATCHDOG_PID, sd_watchdog_enabled(3)); an ignored SIGCHLD, which graceful may not ignore itself
// while the target may end; a cgroup that a process cannot be started in, but can enter; and the terminal's foreground,
// before the target uses it. A run that has none of them does without the shim.
const ShimName = "graceful: becoming the target"

// NeedsShim reports whether something is to be set that only the shim can set.
func (s Spec) NeedsShim() bool {
	self := strconv.Itoa(s.PIDOfOurs)
	return s.Foreground || s.IgnoreChild || Getenv(s.Env, "LISTEN_PID") == self || Getenv(s.Env, "WATCHDOG_PID") == self
}

// StartEntering is StartByShim for a process that enters its cgroup by itself.
func (s Spec) StartEntering(foreground func(pid int)) (pid int, err error) {
	s.enter, s.Cgroup = s.Cgroup, ""
	return s.StartByShim(foreground)
}

// StartByShim starts the process by way of this program. A pipe that execve(2) closes tells whether that succeeded.
// Where this program cannot be executed the process is started without the shim, and then foreground is called, if it
// is to have that.
func (s Spec) StartByShim(foreground func(pid int)) (pid int, err error) {
	if err := unix.Access(SelfExe, unix.X_OK); err != nil {
		if s.enter != "" {
			return 0, fmt.Errorf("%w by way of %s: %w", ErrCgroup, SelfExe, err)
		}
		pid, err := s.Start()
		if err == nil && s.Foreground {
			foreground(pid)
		}
		return pid, err
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return 0, err
	}
	unix.CloseOnExec(pipe[0])
	report := os.NewFile(uintptr(pipe[0]), "exec report")
	defer report.Close()
	s.Argv = append([]string{
		ShimName, strconv.Itoa(pipe[1]), strconv.FormatBool(s.IgnoreChild), strconv.Itoa(s.PIDOfOurs), s.enter,
		strconv.FormatBool(s.Foreground), s.Path,
	}, s.Argv...)
	s.Path = SelfExe
	pid, err = s.Start()
	unix.Close(pipe[1])
	if err != nil {
		return 0, err
	}
	var errno [4]byte
	if n, _ := report.Read(errno[:]); n < len(errno) {
		return pid, nil
	}
	Reap(pid)
	code := binary.NativeEndian.Uint32(errno[:])
	if code&notEntered != 0 {
		return 0, fmt.Errorf("%w: %w", ErrCgroup, syscall.Errno(code&^notEntered))
	}
	return 0, syscall.Errno(code)
}

// notEntered is set in the error that the shim reports when the cgroup could not be entered.
const notEntered = 1 << 16

// Shim becomes the target. args are those of StartByShim after argv[0]. enterForeground makes the caller's group the
// terminal's foreground group. Shim returns the exit status of failure, which only the pipe's reader sees.
func Shim(args []string, enterForeground func()) int {
	const failed = 125
	if len(args) < 7 {
		return failed
	}
	report, err := strconv.Atoi(args[0])
	if err != nil {
		return failed
	}
	unix.CloseOnExec(report)
	fail := func(err error, what uint32) int {
		errno, _ := err.(syscall.Errno)
		_, _ = unix.Write(report, binary.NativeEndian.AppendUint32(nil, uint32(errno)|what))
		return failed
	}
	ignoreChild, ours, cgroup, foreground, path, argv := args[1], args[2], args[3], args[4], args[5], args[6:]
	if cgroup != "" {
		if err := enterCgroup(cgroup); err != nil {
			return fail(err, notEntered)
		}
	}
	if foreground == "true" {
		enterForeground()
	}
	runtime.LockOSThread() // its mask is the target's
	in := ReadInherited()
	for _, sig := range in.Ignored {
		signal.Ignore(sig)
	}
	if ignoreChild == "true" {
		signal.Ignore(unix.SIGCHLD)
	}
	env := os.Environ()
	self := strconv.Itoa(unix.Getpid())
	for _, name := range []string{"LISTEN_PID", "WATCHDOG_PID"} {
		if Getenv(env, name) == ours {
			env = Setenv(env, name, self)
		}
	}
	sigstate.SetMask(in.Blocked...)
	return fail(syscall.Exec(path, argv, env), 0)
}

// enterCgroup moves this process into a cgroup.
func enterCgroup(dir string) error {
	fd, err := unix.Open(dir+"/cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("0"))
	return err
}
