package terminal

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhatBecomesOfAStop(t *testing.T) {
	for name, c := range map[string]struct {
		situation
		want Answer
	}{
		"Ctrl-Z":                                  {situation{signal: unix.SIGTSTP, lent: true}, StopToo},
		"SIGSTOP is seen by the shell, too":       {situation{signal: unix.SIGSTOP, lent: true}, StopToo},
		"a job in the background":                 {situation{signal: unix.SIGTSTP}, StopToo},
		"it reads, and it is our turn":            {situation{signal: unix.SIGTTIN, ours: true}, Continue},
		"it sets modes, and it is our turn":       {situation{signal: unix.SIGTTOU, ours: true}, Continue},
		"it reads, and has got it meanwhile":      {situation{signal: unix.SIGTTIN, lent: true}, Continue},
		"it reads in the background":              {situation{signal: unix.SIGTTIN}, StopToo},
		"it writes in the background":             {situation{signal: unix.SIGTTOU}, StopToo},
		"Ctrl-Z without a shell":                  {situation{signal: unix.SIGTSTP, lent: true, orphaned: true}, Continue},
		"SIGSTOP without a shell was on purpose":  {situation{signal: unix.SIGSTOP, lent: true, orphaned: true}, Leave},
		"our turn without a shell":                {situation{signal: unix.SIGTTIN, ours: true, orphaned: true}, Continue},
		"the background without a shell":          {situation{signal: unix.SIGTTIN, orphaned: true}, Hangup},
		"the background without a shell, again":   {situation{signal: unix.SIGTTIN, orphaned: true, told: true}, Leave},
		"writing there without a shell":           {situation{signal: unix.SIGTTOU, orphaned: true}, Hangup},
		"our own stop while we are in foreground": {situation{signal: unix.SIGTSTP, ours: true}, StopToo},
	} {
		if got := answer(c.situation); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
