// Package machine decides what a run does: it derives the next state and the actions from a state and an event. It
// performs no action, reads no clock and starts no goroutine.
package machine

import (
	"slices"
	"time"

	"graceful/cleanup"
)

// State is a stage in the life of a run. A run moves only forward, but it may skip states. It returns from Done only by
// Retried or RetriedUnstarted.
type State uint8

// The states of a run, in order.
const (
	Starting State = iota // the target has not been started
	Running               // the target runs
	Stopping              // a stop has begun; see Phase
	Killing               // SIGKILL was sent; the target has not ended
	Sweeping              // the target has ended; graceful ends the survivors, or waits for them
	Cleaning              // graceful has finished with the target's tree; cleanup commands run
	Done                  // nothing is left to do
)

func (s State) String() string {
	return [...]string{"starting", "running", "stopping", "killing", "sweeping", "cleaning", "done"}[s]
}

// Run is the complete state of the machine. It is a value and contains only data, so that the ledger can rebuild it,
// and another process can resume it.
type Run struct {
	Policy    Policy
	State     State
	Target    Target
	Stop      Stop
	Cleanup   Cleanup
	Deadlines []Deadline // Advance maintains them, and Next never reads them
}

// Target describes the target process and its end.
type Target struct {
	PID      int           // 0 until the target is started
	Start    uint64        // start time of the target, in clock ticks since boot
	Ended    bool          // the target has ended, could not be started, or was given up; or Recovered has come
	Ending   Ending        // valid once Ended
	Failed   bool          // the target could not be started
	GivenUp  bool          // graceful does not wait for the target's end after SIGKILL any longer; Ending is an assumption
	Duration time.Duration // from the beginning of the run to the target's end
}

// Stop describes the reason for a stop, and the progress of the stop.
type Stop struct {
	Signal          int    // the first stop signal before the target ended, or 0
	Count           int    // number of stop signals, at most 2; those within sameStopWindow count once
	WindowOpen      bool   // sameStopWindow is not over: a further stop signal belongs to the first one
	Received        []int  // the different stop signals within sameStopWindow
	Held            []int  // stop signals to forward when the first step begins
	Sent            []Sent // the different stop signals that were sent in each step
	TimedOut        bool   // the time limit began the stop
	PeerEnded       bool   // graceful was killed, and its successor began the stop
	Recovered       bool   // the event Recovered has come before Sweeping
	Escalated       bool   // SIGKILL was sent to the tree, or to the target's process group
	DeadlineStarted bool   // the deadline has begun, and its limits apply
	Phase           Phase
	Step            int // steps of the schedule that have begun
}

// Phase is a part of a stop.
type Phase uint8

// The phases of Stopping, in order. PhaseSignals continues in Sweeping.
const (
	PhaseOnStop  Phase = iota // on-stop commands run
	PhaseDrain                // the target may finish its work before the first signal
	PhaseSignals              // the steps of the schedule run; see Stop.Step
)

// Cleanup holds the commands of a run, and what must be done before the next command may start.
type Cleanup struct {
	cleanup.Commands
	Recorded int  // upper bound of the size of the records of registrations, in bytes
	Cuts     int  // number of times that cutShort has terminated, killed or ended a cleanup command
	Relaying bool // graceful relays the rest of the target's output; cleanup commands wait for Relayed
	Clearing bool // graceful kills the processes that cleanup commands have left; other commands wait for TreeEmptied
}

// New returns a run before the start of its target.
func New(policy Policy, onExit, onStop []cleanup.Command) Run {
	r := Run{Policy: policy}
	r.Cleanup.Order = policy.Order
	for _, c := range onExit {
		r.Cleanup.Commands = r.Cleanup.Add(cleanup.AtExit, c)
	}
	for _, c := range onStop {
		r.Cleanup.Commands = r.Cleanup.Add(cleanup.AtStop, c)
	}
	return r
}

// Changed reports whether an event of type Signalled, Registered, Withdrawn or Sent has changed the run. The parameter
// was is the run before that event. Changed
// compares only the fields that these events can change.
func (r Run) Changed(was Run) bool {
	values := func(r Run) [9]int {
		return [...]int{
			int(r.State), int(r.Stop.Phase), r.Stop.Step, r.Stop.Count, r.Stop.Signal, len(r.Stop.Held),
			len(r.Stop.Received) + len(r.Stop.Sent), r.Cleanup.Cuts, r.Cleanup.Changes,
		}
	}
	return values(r) != values(was) || r.Stop.DeadlineStarted != was.Stop.DeadlineStarted
}

// WaitsForSurvivors reports whether the run waits for survivors instead of stopping them.
func (r Run) WaitsForSurvivors() bool {
	return r.Policy.Survivors == WaitSurvivors && r.Stop.Step == 0 && !r.Stop.Escalated && !r.Stop.Recovered
}

// KeepsSurvivors reports whether the run leaves survivors alone. In a recovered run it returns false, although the
// policy is KeepSurvivors: graceful recover ends the processes in the target's process group, and only these are
// members of the tree then.
func (r Run) KeepsSurvivors() bool { return r.Policy.Survivors == KeepSurvivors && !r.Stop.Recovered }

// wasSent reports whether Sent has recorded a stop signal of the present step: a signal to all survivors if all is
// true, else to the target or its group.
func (r Run) wasSent(sig int, all bool) bool {
	return slices.ContainsFunc(r.Stop.Sent, func(s Sent) bool {
		return s.Signal == sig && s.All == all && s.Step == r.Stop.Step
	})
}

// MayStart reports whether claimed commands with this When may start now. On-stop commands start only in Stopping.
func (r Run) MayStart(when cleanup.When) bool { return when != cleanup.AtStop || r.State == Stopping }
