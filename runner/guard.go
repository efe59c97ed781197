package runner

import "golang.org/x/sys/unix"

// A run with a guard has two processes of graceful. The user starts the front. The front starts the supervisor, which
// performs the run, and forwards signals to it. Both processes are subreapers.
//
// If the supervisor is killed, the tree is reparented to the front, which resumes the run from the ledger. If the front
// is killed, its end of the link closes, and the supervisor stops the run.

// Guard says whether a run has a guard.
type Guard string

// GuardAuto is on, except as PID 1: if PID 1 is killed, the kernel kills all other processes.
const (
	GuardAuto Guard = "auto"
	GuardOn   Guard = "on"
	GuardOff  Guard = "off"
)

// Guards lists the values of Guard, the default first.
func Guards() []Guard { return []Guard{GuardAuto, GuardOn, GuardOff} }

func (g Guard) wanted() bool { return g == GuardOn || g == GuardAuto && unix.Getpid() != 1 }
