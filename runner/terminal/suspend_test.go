package terminal

import (
	"testing"

	"golang.org/x/sys/unix"
)

// The target is suspended or continued as a job of a shell would be without graceful. In the names, "it" is the target,
// and "no shell" means that graceful's group is orphaned.
func TestAnswer(t *testing.T) {
	const none = 0
	const (
		groupInFront = 1 << iota
		targetInFront
		orphaned
		hungUp
	)
	for name, c := range map[string]struct {
		signal unix.Signal
		state  int
		want   Answer
	}{
		"Ctrl-Z":                    {unix.SIGTSTP, targetInFront, SuspendToo},
		"SIGSTOP by hand":           {unix.SIGSTOP, targetInFront, SuspendToo},
		"a background job, by kill": {unix.SIGTSTP, none, SuspendToo},
		"it reads, and the job is in the foreground":      {unix.SIGTTIN, groupInFront, Continue},
		"it sets modes, and the job is in the foreground": {unix.SIGTTOU, groupInFront, Continue},
		"it reads, and already has the foreground":        {unix.SIGTTIN, targetInFront, Continue},
		"it reads in the background":                      {unix.SIGTTIN, none, SuspendToo},
		"it writes in the background":                     {unix.SIGTTOU, none, SuspendToo},
		"graceful's own, in the foreground":               {unix.SIGTSTP, groupInFront, SuspendToo},
		"Ctrl-Z, no shell":                                {unix.SIGTSTP, targetInFront | orphaned, Continue},
		"SIGSTOP by hand, no shell":                       {unix.SIGSTOP, targetInFront | orphaned, Leave},
		"it reads in the foreground, no shell":            {unix.SIGTTIN, groupInFront | orphaned, Continue},
		"it reads in the background, no shell":            {unix.SIGTTIN, orphaned, Hangup},
		"it writes in the background, no shell":           {unix.SIGTTOU, orphaned, Hangup},
		"it reads after a hangup":                         {unix.SIGTTIN, orphaned | hungUp, Leave},
	} {
		s := situation{
			signal: c.signal, groupInFront: c.state&groupInFront != 0, targetInFront: c.state&targetInFront != 0,
			orphaned: c.state&orphaned != 0, hungUp: c.state&hungUp != 0,
		}
		if got := answer(s); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
