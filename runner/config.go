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
	"graceful/runner/tree"
)

// Config is what a run is asked for. It has been checked: nothing in it can fail before something is started
// but for want of resources.
type Config struct {
	Command []string // the target and its arguments, at least one
	Env     []string // KEY=value, as the target is to see it but for what the run adds
	Name    string
	Grace   time.Duration
	Contain tree.Level
	OnExit  []cleanup.Command
	Order   cleanup.Order

	Guard    Guard
	StateDir string // where the ledger is; "": in memory
	Named    bool   // the name was asked for: in StateDir there is one run of that name at a time

	// How to speak, for the supervisor's sake.
	Verbose bool
	LogJSON bool
}

// check finds what a ledger that was written by somebody else could make us stumble over.
func (c Config) check() error {
	if len(c.Command) == 0 {
		return errors.New("it names no command")
	}
	for _, c := range c.OnExit {
		if len(c.Args) == 0 {
			return errors.New("a cleanup command in it is empty")
		}
	}
	if !slices.Contains(tree.Levels(), c.Contain) {
		return fmt.Errorf("it asks for containment %q, which this program does not know", c.Contain)
	}
	if !slices.Contains(cleanup.Orders(), c.Order) {
		return fmt.Errorf("it asks for the order %q, which this program does not know", c.Order)
	}
	return nil
}
