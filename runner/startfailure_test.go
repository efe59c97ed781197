package runner

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/machine"
	"graceful/runner/process"
)

func TestWhatACleanupCommandIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		run  machine.Run
		want []string // in the order of OutcomeVariables
	}{
		"an exit":         {machine.Run{Target: machine.Target{PID: 7, Ending: machine.Ending{Code: 3}, Duration: 1500 * time.Millisecond}}, []string{"exited", "3", "", "", "false", "7", "1500", "4"}},
		"a signal":        {machine.Run{Target: machine.Target{PID: 7, Ending: machine.Ending{Signal: 11}}}, []string{"signaled", "139", "SEGV", "", "false", "7", "0", "4"}},
		"a stop":          {machine.Run{Target: machine.Target{PID: 7}, Stop: machine.Stop{Signal: machine.SigTERM}}, []string{"stopped", "0", "", "TERM", "false", "7", "0", "4"}},
		"a stop and KILL": {machine.Run{Target: machine.Target{PID: 7, Ending: machine.Ending{Signal: 9}}, Stop: machine.Stop{Signal: sigINT, Escalated: true}}, []string{"stopped", "137", "KILL", "INT", "true", "7", "0", "4"}},
		"a time limit":    {machine.Run{Target: machine.Target{PID: 7, Ending: machine.Ending{Signal: 15}}, Stop: machine.Stop{TimedOut: true, Signal: machine.SigTERM}}, []string{"timed-out", "124", "TERM", "TERM", "false", "7", "0", "4"}},
		"no start":        {machine.Run{Target: machine.Target{Failed: true, Ending: machine.Ending{Code: 127}}}, []string{"start-failed", "127", "", "", "false", "", "0", "4"}},
	} {
		var want []string
		for i, name := range OutcomeVariables {
			want = append(want, name+"="+c.want[i])
		}
		c.run.Target.Ended = true
		if got := outcomeEnv(Run{Run: c.run}, 4); !slices.Equal(got, want) {
			t.Errorf("%s: it is told %q, want %q", name, got, want)
		}
	}
}

// What the system calls missing may be the interpreter, and what it calls no file may be a directory: the hint says so.
func TestWhereAnErrorMisleadsThereIsAHint(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command string
		err     error
		hint    string
	}{
		{"prog", unix.ENOENT, "PATH"},
		{there, unix.ENOENT, "interpreter"},
		{"prog", unix.ENOEXEC, "#!"},
		{"prog", unix.E2BIG, "too long"},
		{"prog", unix.EAGAIN, "ulimit"},
		{"./prog", unix.ENOENT, ""}, // the error says it all
		{"./prog", unix.EACCES, ""},
	} {
		_, hint := startFailure(c.command, c.err)
		if c.hint == "" && hint != "" || !strings.Contains(hint, c.hint) {
			t.Errorf("%s: %v: hint %q, want one about %q", c.command, c.err, hint, c.hint)
		}
	}
}

func TestOnlyForWantOfAResourceIsItTriedAgain(t *testing.T) {
	for err, want := range map[error]bool{
		unix.EAGAIN: true, unix.ENOMEM: true, unix.EMFILE: true, unix.ENFILE: true,
		unix.ENOENT: false, unix.EACCES: false, errors.New("other"): false,
		&os.PathError{Op: "fork", Err: unix.EAGAIN}: true,
	} {
		if got := process.OutOfResources(err); got != want {
			t.Errorf("%v: tried again: %t", err, got)
		}
	}
}
