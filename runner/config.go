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
// but for want of resources. (What has no tag is written down as it stands, see beginning.)
type Config struct {
	Command []string `json:"-"` // the target and its arguments, at least one
	Env     []string `json:"-"` // KEY=value, as the target is to see it but for what the run adds
	Name    string   `json:"-"`

	// How it is stopped.
	OnStop        []cleanup.Command `json:"-"` // before the first signal, one after the other
	Drain         time.Duration     // between them and the first signal
	Grace         time.Duration     // between the first signal and SIGKILL
	Schedule      []Step            // the signals of a stop, when it is not the one that came; SIGKILL follows
	Rewrite       map[int]int       // signals that are passed on as others; as 0: not at all
	ForwardTo     ForwardTo
	KillOnRepeat  bool          // a second stop signal is SIGKILL
	Timeout       time.Duration // of the target; 0: none
	Deadline      time.Duration // of all that follows a stop; 0: none
	Asked         time.Duration // what a stop before cleanup takes under it, as far as that was asked for
	Unsignalled   time.Duration // the part of that which comes before the first signal
	DieWithParent bool          // the death of the process that started us is a stop signal
	Parent        int           // that process, where the user knows it; 0: whoever it is when we begin

	// What is held together, and what becomes of the rest.
	Contain   tree.Level
	Survivors Survivors

	OnExit      []cleanup.Command `json:"-"`
	Order       cleanup.Order
	OnExitLimit time.Duration // of commands that are registered without one
	Defer       Defer         // which processes may register commands; "" is auto (a ledger of an earlier version)

	PTY bool // the target has a terminal of its own

	// What comes of it.
	Reraise            bool        // end by the signal that ended the target
	Remap              map[int]int // exit statuses that are changed into others
	FailOnCleanupError bool
	Report             string `json:"-"` // absolute path for Report, resolved once the run begins; "": none

	Guard    Guard  `json:"-"`
	StateDir string `json:"-"` // where the ledger is; "": in memory
	Named    bool   `json:"-"` // the name was asked for: in StateDir there is one run of that name at a time

	StrictStateDir bool `json:"-"` // that another user can replace StateDir is an error, and not only a warning

	// How to speak, for the supervisor's sake.
	Verbose bool
	LogJSON bool
}

// Step is a signal of a stop, and the time that the target has to end before the next one.
type Step struct {
	Signal int // 0: the stop signal that came; NoSignal: none, it is only waited
	Wait   time.Duration
}

// NoSignal stands in a schedule that begins with a wait, or with SIGKILL.
const NoSignal = -1

// ForwardTo says who in the tree gets the signals that are passed on.
type ForwardTo string

// To the target's process group, or, for programs that stop their own workers, to the target alone.
const (
	ForwardToGroup  ForwardTo = "group"
	ForwardToTarget ForwardTo = "target"
)

// ForwardTos lists them, the default first.
func ForwardTos() []ForwardTo { return []ForwardTo{ForwardToGroup, ForwardToTarget} }

// Survivors says what becomes of members of the tree that are alive after the target has ended.
type Survivors string

// They are stopped, or waited for, or left alone.
const (
	StopSurvivors Survivors = "stop"
	WaitSurvivors Survivors = "wait"
	KeepSurvivors Survivors = "keep"
)

// AllSurvivors lists them, the default first.
func AllSurvivors() []Survivors { return []Survivors{StopSurvivors, WaitSurvivors, KeepSurvivors} }

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
		string(c.ForwardTo): slices.Contains(ForwardTos(), c.ForwardTo), string(c.Survivors): slices.Contains(AllSurvivors(), c.Survivors),
	} {
		if !word {
			return fmt.Errorf("it asks for %q, which this program does not know", name)
		}
	}
	return nil
}
