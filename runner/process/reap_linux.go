package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
	"graceful/runner/machine"
)

// siginfo is siginfo_t with the fields that waitid(2) sets. The union in siginfo_t has the alignment of a pointer.
type siginfo struct {
	signo, errno, code int32
	_                  [0]uintptr
	pid                int32
	_                  uint32
	status             int32
	_                  [128]byte // more than the rest of siginfo_t, which has 128 bytes in all
}

// Peek returns a child that has ended, or pid 0 if there is none. It does not wait. The child stays a zombie, so that
// no other process gets its pid. childless means that there is no child at all.
func (*Children) Peek() (pid int, ending machine.Ending, childless bool) {
	return peek(unix.P_ALL, 0, nil)
}

// isZombie reports whether a child has ended and is not reaped yet.
func isZombie(pid int) bool {
	found, _, _ := peek(unix.P_PID, pid, nil)
	return found != 0
}

// UsageOf returns the resources that an ended, unreaped child has used, or nil.
func (*Children) UsageOf(pid int) *machine.Usage {
	var used unix.Rusage
	if found, _, _ := peek(unix.P_PID, pid, &used); found == 0 {
		return nil
	}
	return usage(used)
}

// usage converts a struct rusage (getrusage(2)).
func usage(used unix.Rusage) *machine.Usage {
	ms := func(t unix.Timeval) float64 { return float64(t.Nano()) / 1e6 }
	return &machine.Usage{
		UserMS: ms(used.Utime), SystemMS: ms(used.Stime), MaxRSSKB: int64(used.Maxrss),
		MinorFaults: int64(used.Minflt), MajorFaults: int64(used.Majflt),
		BlocksRead: int64(used.Inblock), BlocksWritten: int64(used.Oublock),
		VoluntarySwitches: int64(used.Nvcsw), InvoluntarySwitches: int64(used.Nivcsw),
	}
}

// SuspendedBy returns the signal that has suspended a child since the last call, or 0.
func (*Children) SuspendedBy(child int) syscall.Signal { return suspendedBy(child) }

func suspendedBy(child int) syscall.Signal {
	info, err := waitid(unix.P_PID, child, unix.WSTOPPED, nil)
	if err != nil || info.pid == 0 {
		return 0
	}
	return syscall.Signal(info.status)
}

func peek(kind, id int, used *unix.Rusage) (pid int, ending machine.Ending, childless bool) {
	info, err := waitid(kind, id, unix.WEXITED|unix.WNOWAIT, used)
	if err != nil || info.pid == 0 {
		return 0, machine.Ending{}, err == unix.ECHILD
	}
	if info.code == exited {
		return int(info.pid), machine.Ending{Code: int(info.status)}, false
	}
	return int(info.pid), machine.Ending{Signal: int(info.status)}, false
}

// exited is CLD_EXITED (sigaction(2)). The other codes for an end are CLD_KILLED and CLD_DUMPED.
const exited = 1

// waitid calls waitid(2) without waiting. info.pid is 0 if no child has changed.
func waitid(kind, id, options int, used *unix.Rusage) (info siginfo, err error) {
	err = eintr.Retry(func() error {
		return unix.Waitid(kind, id, (*unix.Siginfo)(unsafe.Pointer(&info)), options|unix.WNOHANG, used)
	})
	return info, err
}

// ReapOrphan reaps a child if it has ended. The child is an orphan, or a command for which the run no longer waits.
func (c *Children) ReapOrphan(pid int) (ending machine.Ending, ended bool) {
	var status unix.WaitStatus
	found, _ := eintr.RetryValue(func() (int, error) { return unix.Wait4(pid, &status, unix.WNOHANG, nil) })
	if found != pid {
		return machine.Ending{}, false
	}
	c.freeSlotOf(pid)
	if status.Signaled() {
		return machine.Ending{Signal: int(status.Signal())}, true
	}
	return machine.Ending{Code: status.ExitStatus()}, true
}

// reap waits for the end of a child, and reaps the child.
func reap(pid int) {
	_, _ = eintr.RetryValue(func() (int, error) { return unix.Wait4(pid, nil, 0, nil) })
}
