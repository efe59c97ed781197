package terminal

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Each situation has the answer that a user of a shell expects.
func TestAnswer(t *testing.T) {
	const none = 0
	const (
		groupHas = 1 << iota
		targetHas
		orphaned
		hungUp
	)
	for name, c := range map[string]struct {
		signal unix.Signal
		state  int
		want   Answer
	}{
		"Ctrl-Z":                    {unix.SIGTSTP, targetHas, SuspendToo},
		"SIGSTOP by hand":           {unix.SIGSTOP, targetHas, SuspendToo},
		"a background job, by kill": {unix.SIGTSTP, none, SuspendToo},
		"it reads, and the job is in the foreground":      {unix.SIGTTIN, groupHas, Continue},
		"it sets modes, and the job is in the foreground": {unix.SIGTTOU, groupHas, Continue},
		"it reads, and already has the foreground":        {unix.SIGTTIN, targetHas, Continue},
		"it reads in the background":                      {unix.SIGTTIN, none, SuspendToo},
		"it writes in the background":                     {unix.SIGTTOU, none, SuspendToo},
		"graceful's own, in the foreground":               {unix.SIGTSTP, groupHas, SuspendToo},
		"Ctrl-Z, no shell":                                {unix.SIGTSTP, targetHas | orphaned, Continue},
		"SIGSTOP by hand, no shell":                       {unix.SIGSTOP, targetHas | orphaned, Leave},
		"it reads in the foreground, no shell":            {unix.SIGTTIN, groupHas | orphaned, Continue},
		"it reads in the background, no shell":            {unix.SIGTTIN, orphaned, Hangup},
		"it writes in the background, no shell":           {unix.SIGTTOU, orphaned, Hangup},
		"it reads after a hangup":                         {unix.SIGTTIN, orphaned | hungUp, Leave},
	} {
		s := situation{
			signal: c.signal, groupHas: c.state&groupHas != 0, targetHas: c.state&targetHas != 0,
			orphaned: c.state&orphaned != 0, hungUp: c.state&hungUp != 0,
		}
		if got := answer(s); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
