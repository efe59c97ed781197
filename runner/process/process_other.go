//go:build unix && !linux

package process

import (
	"errors"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/forward"
	"graceful/runner/machine"
)

type signalMask struct{}

// readInherited knows of SIGHUP and SIGINT only: the Go runtime has replaced the other dispositions.
func ReadInherited() Inherited {
	var in Inherited
	for sig := syscall.Signal(1); sig <= forward.Last; sig++ {
		if signal.Ignored(sig) {
			in.Ignored = append(in.Ignored, sig)
		}
	}
	return in
}

// block and setMask do nothing: the runtime's mask is that of our parent but for the few signals that it needs.
func Block([]syscall.Signal) (before signalMask) { return before }

func SetMask(mask signalMask) signalMask { return mask }

// EndBy ends this process by a signal, without a core dump. It returns when it cannot.
func EndBy(sig syscall.Signal) {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	signal.Reset(sig)
	_ = unix.Kill(unix.Getpid(), sig)
	time.Sleep(time.Second)
}

// peek reaps what has ended: these systems are not asked to look without reaping. Between the end of the target
// and the signal to its group its id is free; that no other group takes it in that moment is not promised.
func Peek() (pid int, ending machine.Ending, childless bool) { return wait(-1) }

func PeekAt(pid int) (ending machine.Ending, ended bool) {
	found, ending, _ := wait(pid)
	return ending, found != 0
}

func wait(id int) (pid int, ending machine.Ending, childless bool) {
	var status unix.WaitStatus
	for {
		pid, err := unix.Wait4(id, &status, unix.WNOHANG|unix.WUNTRACED, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, machine.Ending{}, err == unix.ECHILD
		case pid <= 0:
			return 0, machine.Ending{}, false
		case status.Stopped():
			stops[pid] = status.StopSignal()
			continue
		case status.Signaled():
			return pid, machine.Ending{Signal: int(status.Signal())}, false
		}
		return pid, machine.Ending{Code: status.ExitStatus()}, false
	}
}

// stops are those that wait has met, which takes them.
var stops = map[int]syscall.Signal{}

// stopOf is the signal by which a child has been stopped since the last look, or 0.
func SuspendedBy(child int) syscall.Signal {
	sig := stops[child]
	delete(stops, child)
	return sig
}

func Reap(int) {}

// usageOf knows nothing: who has ended has been reaped.
func UsageOf(int) *machine.Usage { return nil }

// sinceBoot stands for a clock that processes have in common; nothing goes on from a ledger here while the machine runs.
func SinceBoot() time.Duration { return time.Duration(time.Now().UnixNano()) }

// startIn fails: cgroups are Linux's.
func startIn(string, *syscall.SysProcAttr) (done func(), err error) {
	return nil, errors.ErrUnsupported
}

// Unreadable says what ReadInherited misses.
func Unreadable() error { return errors.New("of the ignored signals only HUP and INT are known here") }
