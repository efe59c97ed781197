package doctor

import (
	"testing"

	"golang.org/x/sys/unix"
)

// If a signal ended the run, the reason is that signal. Otherwise it is the first line of the output without graceful's
// prefixes, or the exit status if there is no output. A run with status 0 has not failed, whatever its output is.
func TestFailure(t *testing.T) {
	const exited = 8 // bits below the exit status (wait(2))
	for text, c := range map[string]struct {
		status unix.WaitStatus
		want   string
	}{
		"a warning\n": {0, ""},
		"graceful: setting up the run: guard: no room\nmore\n": {125 << exited, "guard: no room"},
		"fatal error: newosproc\n":                             {2 << exited, "fatal error: newosproc"},
		"":                                                     {125 << exited, "exit status 125"},
		"graceful: one line\n":                                 {unix.WaitStatus(unix.SIGKILL), "signal KILL ended it"},
	} {
		have := ""
		if err := failure(c.status, text); err != nil {
			have = err.Error()
		}
		if have != c.want {
			t.Errorf("%q with status %#x: %q, want %q", text, c.status, have, c.want)
		}
	}
}
