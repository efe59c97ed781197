package runner

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
	"graceful/runner/machine"
)

// siginfo is the part of siginfo_t that waitid(2) fills in. The union in it begins where a pointer may stand.
type siginfo struct {
	signo, errno, code int32
	_                  [0]uintptr
	pid                int32
	_                  uint32
	status             int32
	_                  [128]byte // siginfo_t has 128 bytes in all: room enough
}

// peek looks for a child that has ended and leaves it a zombie, so that its id stays its own. pid is 0 when none
// has ended; childless says that there is none at all. No system call blocks.
func peek() (pid int, ending machine.Ending, childless bool) { return waitid(unix.P_ALL, 0, nil) }

// peekAt is peek for one child, which must not have been reaped.
func peekAt(pid int) (ending machine.Ending, ended bool) {
	found, ending, _ := waitid(unix.P_PID, pid, nil)
	return ending, found != 0
}

// usageOf is what a child has used that has ended and was not reaped.
func usageOf(pid int) *machine.Usage {
	var used unix.Rusage
	if found, _, _ := waitid(unix.P_PID, pid, &used); found == 0 {
		return nil
	}
	ms := func(t unix.Timeval) float64 { return float64(t.Nano()) / 1e6 }
	return &machine.Usage{
		UserMS: ms(used.Utime), SystemMS: ms(used.Stime), MaxRSSKB: int64(used.Maxrss),
		MinorFaults: int64(used.Minflt), MajorFaults: int64(used.Majflt),
		BlocksRead: int64(used.Inblock), BlocksWritten: int64(used.Oublock),
		VoluntarySwitches: int64(used.Nvcsw), InvoluntarySwitches: int64(used.Nivcsw),
	}
}

// stopOf is the signal by which a child has been stopped since the last look, or 0.
func stopOf(child int) syscall.Signal {
	var info siginfo
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(child), uintptr(unsafe.Pointer(&info)), unix.WSTOPPED|unix.WNOHANG, 0, 0)
	if errno != 0 || info.pid == 0 {
		return 0
	}
	return syscall.Signal(info.status)
}

func waitid(kind, id int, used *unix.Rusage) (pid int, ending machine.Ending, childless bool) {
	var info siginfo
	for {
		_, _, errno := unix.Syscall6(unix.SYS_WAITID, uintptr(kind), uintptr(id), uintptr(unsafe.Pointer(&info)),
			unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, uintptr(unsafe.Pointer(used)), 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return 0, machine.Ending{}, errno == unix.ECHILD
		case info.pid == 0:
			return 0, machine.Ending{}, false
		}
		break
	}
	const exited = 1 // CLD_EXITED (sigaction(2)); the others are CLD_KILLED and CLD_DUMPED
	if info.code == exited {
		return int(info.pid), machine.Ending{Code: int(info.status)}, false
	}
	return int(info.pid), machine.Ending{Signal: int(info.status)}, false
}

// reap ends the zombie that peek has shown.
func reap(pid int) {
	_, _ = eintr.RetryValue(func() (int, error) { return unix.Wait4(pid, nil, 0, nil) })
}
