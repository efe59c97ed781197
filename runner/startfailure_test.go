package runner

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/process"
)

// errNoInterpreter is the error for a program with a missing interpreter.
var errNoInterpreter = fmt.Errorf("%w: %w", process.ErrInterpreter, unix.ENOENT)

func TestStartFailure_status(t *testing.T) {
	for _, c := range []struct {
		command string
		err     error
		status  int
	}{
		{"prog", unix.ENOENT, 127}, {"./prog", unix.ENOENT, 127}, {"a/b", unix.ENOTDIR, 127}, {"prog", errNoInterpreter, 126},
		{"prog", unix.EACCES, 126}, {"prog", unix.ENOEXEC, 126}, {"prog", unix.E2BIG, 126}, {"prog", unix.EPERM, 126},
		{"prog", unix.EAGAIN, 125}, {"prog", unix.ENOMEM, 125}, {"prog", unix.EMFILE, 125},
	} {
		if got, _ := startFailure(c.command, c.err); got != c.status {
			t.Errorf("%s: %v: status %d, want %d", c.command, c.err, got, c.status)
		}
	}
}

func TestCheckCommands_execFormNeedsNoShell(t *testing.T) {
	exec, err := cleanup.Parse(`["/no/such/program"]`)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkCommands([]cleanup.Command{exec}); err != nil {
		t.Errorf("the exec form needs no shell: %v", err)
	}
}

// If an error of the system may mislead the user, startFailure adds a hint that explains it.
func TestStartFailure_hint(t *testing.T) {
	for _, c := range []struct {
		command string
		err     error
		hint    string
	}{
		{"prog", unix.ENOENT, "PATH"},
		{"prog", unix.ENOTDIR, "PATH"},
		{"prog", errNoInterpreter, ""},
		{"prog", unix.ENOEXEC, "neither a script"},
		{"prog", unix.E2BIG, "too long"},
		{"prog", unix.EAGAIN, "ulimit"},
		{"./prog", unix.ENOENT, ""}, // the error suffices
		{"./prog", unix.EACCES, ""},
	} {
		_, hint := startFailure(c.command, c.err)
		if c.hint == "" && hint != "" || !strings.Contains(hint, c.hint) {
			t.Errorf("%s: %v: hint %q, want one about %q", c.command, c.err, hint, c.hint)
		}
	}
}
