// Package runner leads the life of a run: it starts the target, hands signals on, ends the tree, and runs the
// cleanup commands.
//
// machine.go decides and is pure; loop.go performs; system.go is the operating system. One goroutine starts,
// signals and reaps, so that between looking at a process and signalling it nothing of ours can have reaped it.
package runner

import (
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
}
