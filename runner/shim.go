package runner

import (
	"encoding/binary"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ShimName is the argv[0] by which this program knows that it is to become the target. Two things can be set only
// in the process that becomes it: variables that hold its pid (LISTEN_PID, sd_listen_fds(3); WATCHDOG_PID,
// sd_watchdog_enabled(3)), and an ignored SIGCHLD, which we may not ignore ourselves while the target may end. A
// run that has neither, and hardly any has, does without.
const ShimName = "graceful: becoming the target"

// throughShim starts a process by way of ourselves. A pipe that closes at execve tells whether that succeeded.
func (p *processes) throughShim(s start) (int, error) {
	if unix.Access(selfExe, unix.X_OK) != nil {
		return p.fork(s) // better without than not at all
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
	s.argv = append([]string{ShimName, strconv.Itoa(pipe[1]), ignoreChild, strconv.Itoa(p.userPID()), s.path}, s.argv...)
	s.path = selfExe
	pid, err := p.fork(s)
	unix.Close(pipe[1])
	if err != nil {
		return 0, err
	}
	var errno [4]byte
	if n, _ := report.Read(errno[:]); n == len(errno) {
		reap(pid)
		return 0, syscall.Errno(binary.NativeEndian.Uint32(errno[:]))
	}
	return pid, nil
}

// Shim becomes the target; args are ours after argv[0]: the pipe's descriptor, whether SIGCHLD is to be ignored,
// the pid that such variables may hold, the program, its argv. It returns the exit status of failure, which nobody but the pipe's reader sees.
func Shim(args []string) int {
	if len(args) < 5 {
		return 125
	}
	report, err := strconv.Atoi(args[0])
	if err != nil {
		return 125
	}
	unix.CloseOnExec(report)
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
	err = syscall.Exec(args[3], args[4:], env)
	errno, _ := err.(syscall.Errno)
	_, _ = unix.Write(report, binary.NativeEndian.AppendUint32(nil, uint32(errno)))
	return 125
}
