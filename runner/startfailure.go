package runner

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/process"
)

// checkCommands returns an error if there are too many commands, or if a command needs a missing shell.
func checkCommands(commands []cleanup.Command) error {
	if n := len(commands); n > machine.MaxCommands {
		return fmt.Errorf("%w: %d commands were given; at most %d are allowed", journal.ErrTooLarge, n, machine.MaxCommands)
	}
	for _, c := range commands {
		if !c.NeedsShell() {
			continue
		}
		if err := ProbeShell(); err != nil {
			return fmt.Errorf(`command %q needs %s: %w (without a shell use the exec form: ["./flush", "--all"])`,
				c.Text, cleanup.Shell, err)
		}
	}
	return nil
}

// checkSizes returns an error if a command of the configuration, with the variables of the run, is too long for
// execve(2).
func (r Run) checkSizes() error {
	for c := range r.Cleanup.Entries.All() {
		if err := process.CheckSize(c.Command.Args, commandEnv(r, *c)); err != nil {
			return fmt.Errorf("command %.60q: %w", c.Command.Text, err)
		}
	}
	return nil
}

// startFailure returns the exit status for a failed start of the target, as in env(1) and shells. It adds a hint if the
// error alone would be misleading.
func startFailure(command string, err error) (status int, hint string) {
	switch {
	case errors.Is(err, process.ErrCgroup):
		return machine.StatusFailed, "it was not executed"
	case process.OutOfResources(err):
		return machine.StatusFailed, "out of processes, memory or descriptors: see ulimit -a and the container's limits"
	case errors.Is(err, process.ErrInterpreter):
		return 126, "" // the error explains it
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		if !strings.Contains(command, "/") {
			hint = "no directory in PATH has it"
		}
		return 127, hint
	case errors.Is(err, unix.ENOEXEC):
		return 126, "it is neither a script nor a binary for this architecture"
	case errors.Is(err, unix.E2BIG):
		return 126, "arguments and environment together are too long"
	}
	return 126, ""
}
