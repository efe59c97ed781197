package runner

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"graceful/runner/terminal"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// ShimName is the argv[0] by which this program knows that it is to become the target. Two things can be set only
// in the process that becomes it: variables that hold its pid (LISTEN_PID, sd_listen_fds(3); WATCHDOG_PID,
// sd_watchdog_enabled(3)), and an ignored SIGCHLD, which we may not ignore ourselves while the target may end; and a
// cgroup can be entered there where it cannot be started in. Only there, too, can the target's group take the terminal before
// the target uses it. A run that has none of them does without.
const ShimName = "graceful: becoming the target"

// throughShim starts a process by way of ourselves. A pipe that closes at execve tells whether that succeeded.
func (p *processes) throughShim(s start) (int, error) {
	if err := unix.Access(selfExe, unix.X_OK); err != nil && !s.enter {
		pid, err := p.fork(s) // better without than not at all
		if err == nil && s.foreground {
			_ = p.jobs.terminal.GiveForeground(pid)
		}
		return pid, err
	} else if err != nil {
		return 0, fmt.Errorf("%w by way of %s: %w", errCgroup, selfExe, err)
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return 0, err
	}
	unix.CloseOnExec(pipe[0])
	report := os.NewFile(uintptr(pipe[0]), "exec report")
	defer report.Close()
	ignoreChild := "0"
	if p.inherit.ignores(unix.SIGCHLD) {
		ignoreChild = "1"
	}
	enter := ""
	if s.enter {
		enter = s.cgroup
	}
	foreground := "0"
	if s.foreground {
		foreground = "1"
	}
	s.argv = append([]string{ShimName, strconv.Itoa(pipe[1]), ignoreChild, strconv.Itoa(p.userPID()), enter, foreground, s.path}, s.argv...)
	s.path = selfExe
	pid, err := p.fork(s)
	unix.Close(pipe[1])
	if err != nil {
		return 0, err
	}
	var errno [4]byte
	if n, _ := report.Read(errno[:]); n == len(errno) {
		reap(pid)
		switch code := binary.NativeEndian.Uint32(errno[:]); {
		case code&notEntered != 0:
			return 0, fmt.Errorf("%w: %w", errCgroup, syscall.Errno(code&^notEntered))
		default:
			return 0, syscall.Errno(code)
		}
	}
	return pid, nil
}

// notEntered is set in the error that the shim reports when it was the cgroup that could not be entered.
const notEntered = 1 << 16

// Shim becomes the target; args are ours after argv[0]: the pipe's descriptor, whether SIGCHLD is to be ignored,
// the pid that such variables may hold, the cgroup to enter, whether to take the terminal's foreground, the program, its argv. It returns the
// exit status of failure, which nobody but the pipe's reader sees.
func Shim(args []string) int {
	if len(args) < 7 {
		return 125
	}
	report, err := strconv.Atoi(args[0])
	if err != nil {
		return 125
	}
	unix.CloseOnExec(report)
	fail := func(err error, what uint32) int {
		errno, _ := err.(syscall.Errno)
		_, _ = unix.Write(report, binary.NativeEndian.AppendUint32(nil, uint32(errno)|what))
		return 125
	}
	if dir := args[3]; dir != "" {
		if err := tree.Enter(dir); err != nil {
			return fail(err, notEntered)
		}
	}
	if args[4] == "1" {
		terminal.EnterForeground(0)
	}
	runtime.LockOSThread() // whose mask is the target's
	in := readInherited()
	for _, sig := range in.ignored {
		signal.Ignore(sig)
	}
	if args[1] == "1" {
		signal.Ignore(unix.SIGCHLD)
	}
	env := os.Environ()
	self := strconv.Itoa(unix.Getpid())
	for _, name := range []string{"LISTEN_PID", "WATCHDOG_PID"} {
		if getenv(env, name) == args[2] {
			env = setenv(env, name, self)
		}
	}
	block(in.blocked)
	return fail(syscall.Exec(args[5], args[6:], env), 0)
}
