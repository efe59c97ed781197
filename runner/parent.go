package runner

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// The death of the process that started us as a stop signal. PR_SET_PDEATHSIG is not used for that: it tells of the end
// of the parent's thread, and is lost where a set-user-ID program is executed (prctl(2)).

// parentEnded is what is said of it, by who acts on it.
const parentEnded = "the process that started graceful has ended"

// errNoParent: there is nobody whose death could be waited for.
var errNoParent = errors.New("watching the process that started graceful: it cannot be seen from this PID namespace")

// watchParent closes gone when the process that started us has ended. It may have done so before our first step; then
// our parent is another process, which ended tells as far as that can be known: when the user has said which process it
// was, when init has us, or when our session is neither our own nor our parent's.
func watchParent(c Config) (gone <-chan struct{}, ended bool, err error) {
	parent := unix.Getppid()
	switch {
	case parent == 0:
		return nil, false, errNoParent
	case c.Parent != 0:
		ended = parent != c.Parent
	default:
		ended = parent == 1 || adopted(parent)
	}
	if ended {
		return nil, true, nil
	}
	closed := make(chan struct{})
	wait := waitFor(parent) // the process is the one that we mean if it is our parent still
	if unix.Getppid() != parent {
		return nil, true, nil
	}
	go func() {
		if !wait() {
			for unix.Getppid() == parent {
				time.Sleep(parentPoll)
			}
		}
		time.Sleep(lastWord)
		close(closed)
	}()
	return closed, false, nil
}

// parentPoll is how often we look where the system does not tell.
const parentPoll = 100 * time.Millisecond

// lastWord is how long a stop signal may be on its way to us that was sent before the parent ended, or with what ended
// it: its death is no second one then.
const lastWord = 100 * time.Millisecond

func adopted(parent int) bool {
	ours, err := unix.Getsid(0)
	theirs, err2 := unix.Getsid(parent)
	return err == nil && err2 == nil && ours != unix.Getpid() && ours != theirs
}
