// Package runner performs a run: it starts the target, forwards signals, ends the tree, and runs the cleanup commands.
// Package machine makes the decisions, and the loop performs them.
//
// Only one goroutine starts, signals and reaps processes. So neither the target nor a command is reaped between a check
// of that process and a signal to that process.
package runner

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/notify"
	"graceful/runner/tree"
)

// Config is the configuration of a run. The first record of the ledger contains the fields as JSON, except those with
// the tag json:"-". recordBegin records Command, Env, Name, Report, OnStop and OnExit in other forms.
type Config struct {
	Command []string `json:"-"` // the target and its arguments, at least one
	Env     []string `json:"-"` // KEY=value, for the target and for commands that have no Env; the run adds variables
	Name    string   `json:"-"`

	machine.Policy

	OnStop         []cleanup.Command `json:"-"` // run in sequence before a stop sends its first signal
	OnExit         []cleanup.Command `json:"-"`
	StopsOnIgnored bool              // signals of StopOn begin a stop even if they were ignored when graceful started
	DieWithParent  bool              // a stop begins when the process that started graceful ends
	Parent         int               // pid of the process that started graceful; 0: the parent when the run begins

	Contain tree.Level
	Defer   Defer  // "": DeferAuto, in a ledger of an earlier version
	Report  string `json:"-"` // path of the report, resolved when the run begins; "": none

	Notify   notify.Choice `json:"-"`
	Guard    Guard         `json:"-"`
	StateDir string        `json:"-"` // directory of the ledger; "": only a run with a guard has a ledger, in memory
	Named    bool          `json:"-"` // the user gave the name: StateDir has one run of that name at a time

	StrictStateDir bool          `json:"-"` // it is an error if another user can replace StateDir
	WaitForName    time.Duration `json:"-"` // maximum time to wait for the end of a live run of the name; 0: fail instead

	// The following fields configure the logger. A graceful that takes over uses them as well.
	Verbose     bool
	Quiet       bool
	LogJSON     bool
	Annotations bool // write annotations if Env identifies a CI system that supports them
}

// StoppingTime returns the part of c.Deadline that is left for a stop before the cleanup commands start. Without a
// deadline the result has no meaning.
func (c Config) StoppingTime() time.Duration { return newRun("", c).StoppingTime() }

// check returns an error if the configuration contains a value that this program does not know, or an empty command. A
// ledger that another version has written may contain such a configuration.
func (c Config) check() error {
	if len(c.Command) == 0 {
		return errors.New("it names no command")
	}
	for _, c := range slices.Concat(c.OnExit, c.OnStop) {
		if len(c.Args) == 0 {
			return errors.New("a command in it is empty")
		}
	}
	for _, choice := range []struct {
		what, value string
		known       bool
	}{
		{"containment ", string(c.Contain), slices.Contains(tree.Levels(), c.Contain)},
		{"the order ", string(c.Order), slices.Contains(cleanup.Orders(), c.Order)},
		{"--defer ", string(c.Defer), c.Defer == "" || slices.Contains(DeferValues(), c.Defer)},
		{"", string(c.ForwardTo), slices.Contains(machine.ForwardTos(), c.ForwardTo)},
		{"", string(c.OnRepeat), c.OnRepeat == "" || slices.Contains(machine.OnRepeatValues(), c.OnRepeat)},
		{"", string(c.Survivors), slices.Contains(machine.SurvivorsValues(), c.Survivors)},
	} {
		if !choice.known {
			return fmt.Errorf("it asks for %s%q, which this program does not know", choice.what, choice.value)
		}
	}
	return nil
}

// Guard selects whether a run has a guard.
type Guard string

// GuardAuto means GuardOn, except that the run continues without a guard if the guard cannot be started. If graceful is
// PID 1, GuardAuto means GuardOff: when PID 1 is killed, the kernel also kills all other processes of the PID
// namespace.
const (
	GuardAuto Guard = "auto"
	GuardOn   Guard = "on"
	GuardOff  Guard = "off"
)

// Guards lists the values of Guard, the default first.
func Guards() []Guard { return []Guard{GuardAuto, GuardOn, GuardOff} }

func (g Guard) wanted() bool { return g == GuardOn || g == GuardAuto && unix.Getpid() != 1 }
