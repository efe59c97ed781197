// Package runner leads the life of a run: it starts the target, hands signals on, ends the tree, and runs the
// cleanup commands.
//
// machine.go decides and is pure; loop.go performs; system.go is the operating system. One goroutine starts,
// signals and reaps, so that between looking at a process and signalling it nothing of ours can have reaped it.
package runner

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/tree"
)

// Config is what a run is asked for. It has been checked: nothing in it can fail before something is started
// but for want of resources. (What has no tag is written down as it stands, see beginning.)
type Config struct {
	Command []string `json:"-"` // the target and its arguments, at least one
	Env     []string `json:"-"` // KEY=value, as the target is to see it but for what the run adds
	Name    string   `json:"-"`

	machine.Policy

	OnStop        []cleanup.Command `json:"-"` // before the first signal, one after the other
	OnExit        []cleanup.Command `json:"-"`
	DieWithParent bool              // the death of the process that started us is a stop signal
	Parent        int               // that process, where the user knows it; 0: our parent when the run begins

	Contain tree.Level
	Defer   Defer  // which processes may register commands; "" is auto (a ledger of an earlier version)
	Report  string `json:"-"` // absolute path for Report, resolved once the run begins; "": none

	Guard    Guard  `json:"-"`
	StateDir string `json:"-"` // where the ledger is; "": in memory
	Named    bool   `json:"-"` // the name was asked for: in StateDir there is one run of that name at a time

	StrictStateDir bool `json:"-"` // that another user can replace StateDir is an error, and not only a warning

	// How to speak, for the supervisor's sake.
	Verbose bool
	LogJSON bool
}

// StoppingTime is what the deadline leaves, at the beginning of a run, for all that comes before the cleanup commands.
func (c Config) StoppingTime() time.Duration { return newRun("", c).StoppingTime() }

// check finds what a ledger that was written by somebody else could make us stumble over.
func (c Config) check() error {
	if len(c.Command) == 0 {
		return errors.New("it names no command")
	}
	for _, c := range append(slices.Clone(c.OnExit), c.OnStop...) {
		if len(c.Args) == 0 {
			return errors.New("a command in it is empty")
		}
	}
	if !slices.Contains(tree.Levels(), c.Contain) {
		return fmt.Errorf("it asks for containment %q, which this program does not know", c.Contain)
	}
	if !slices.Contains(cleanup.Orders(), c.Order) {
		return fmt.Errorf("it asks for the order %q, which this program does not know", c.Order)
	}
	if c.Defer != "" && !slices.Contains(Defers(), c.Defer) {
		return fmt.Errorf("it asks for --defer %q, which this program does not know", c.Defer)
	}
	for name, word := range map[string]bool{
		string(c.ForwardTo): slices.Contains(machine.ForwardTos(), c.ForwardTo), string(c.Survivors): slices.Contains(machine.AllSurvivors(), c.Survivors),
	} {
		if !word {
			return fmt.Errorf("it asks for %q, which this program does not know", name)
		}
	}
	return nil
}
