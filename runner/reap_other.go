//go:build unix && !linux

package runner

import (
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/runner/machine"
)

// peek reaps what has ended: these systems are not asked to look without reaping. Between the end of the target
// and the signal to its group its id is free; that no other group takes it in that moment is not promised.
func peek() (pid int, ending machine.Ending, childless bool) { return wait(-1) }

func peekAt(pid int) (ending machine.Ending, ended bool) {
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
func stopOf(child int) syscall.Signal {
	sig := stops[child]
	delete(stops, child)
	return sig
}

func reap(int) {}

// usageOf knows nothing: who has ended has been reaped.
func usageOf(int) *machine.Usage { return nil }
