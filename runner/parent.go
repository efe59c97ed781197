package runner

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// parentEnded is the text for log messages if the end of the parent is the reason for a stop, or for starting nothing.
const parentEnded = "the process that started graceful has ended"

// watchParent watches the process that started graceful, for --die-with-parent: a stop begins when that process ends.
// watchParent closes the channel gone at a time signalDelay after that end. PR_SET_PDEATHSIG is unsuitable: it reports
// the end of the parent's thread, and execve(2) of a set-user-ID program clears it (prctl(2)).
//
// ended means that the process that started graceful counts as ended already. That is so if c.Parent is set and is not
// the parent, or if the parent changes during the call. If c.Parent is 0, it is also so if the parent is PID 1, or if
// graceful does not lead its session and the parent is in another session. The error means that the parent is outside
// of the PID namespace.
func watchParent(c Config) (gone <-chan struct{}, ended bool, err error) {
	parent := unix.Getppid()
	switch {
	case parent == 0:
		return nil, false, errors.New(
			"watching the process that started graceful: it cannot be seen from this PID namespace")
	case c.Parent != 0:
		ended = parent != c.Parent
	default:
		ended = parent == 1 || isForeign(parent)
	}
	if ended {
		return nil, true, nil
	}
	closed := make(chan struct{})
	wait := waitFor(parent) // waits for the right process, if the parent does not change
	if unix.Getppid() != parent {
		return nil, true, nil
	}
	go func() {
		if !wait() {
			for unix.Getppid() == parent {
				time.Sleep(parentPoll)
			}
		}
		time.Sleep(signalDelay)
		close(closed)
	}()
	return closed, false, nil
}

// parentPoll is the time between two checks of the parent, if the system does not report the end of the parent.
const parentPoll = 100 * time.Millisecond

// signalDelay is the time from the end of the parent until graceful acts on that end. A stop signal that was sent to
// the parent and to graceful arrives within that time, even if the signal has ended the parent. The loop then ignores
// the end of the parent, which would otherwise count as a second stop signal.
const signalDelay = 100 * time.Millisecond

// isForeign reports whether graceful's session differs from its parent's session, and graceful is not the session
// leader.
func isForeign(parent int) bool {
	ours, err := unix.Getsid(0)
	theirs, err2 := unix.Getsid(parent)
	return err == nil && err2 == nil && ours != unix.Getpid() && ours != theirs
}
