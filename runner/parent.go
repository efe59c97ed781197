package runner

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// With --die-with-parent a stop begins when the process that started graceful ends. PR_SET_PDEATHSIG is unsuitable: it
// reports the end of the parent's thread, and execve(2) of a set-user-ID program clears it (prctl(2)).

// parentEnded is the text for log messages if the end of the parent is the reason for a stop.
const parentEnded = "the process that started graceful has ended"

// watchParent returns a channel that is closed when the process that started graceful has ended.
//
// ended means that the process that started graceful ended before the call, so that graceful has a new parent. Three
// cases show that: the parent is not c.Parent; the parent is init; or graceful does not lead its session, and its
// parent is in another session.
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
	wait := waitFor(parent) // waits for the right process, if that is still the parent
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

// parentPoll is the time between two checks of the parent, if the system does not report its end.
const parentPoll = 100 * time.Millisecond

// A stop signal that was sent before the parent ended, or that ended the parent, arrives within signalDelay. graceful
// reports the end of the parent only after that time, so that the end does not count as a second stop signal.
const signalDelay = 100 * time.Millisecond

// isForeign reports whether graceful's session differs from its parent's session, and graceful is not the session
// leader.
func isForeign(parent int) bool {
	ours, err := unix.Getsid(0)
	theirs, err2 := unix.Getsid(parent)
	return err == nil && err2 == nil && ours != unix.Getpid() && ours != theirs
}
