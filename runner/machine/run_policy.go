package machine

import (
	"time"

	"graceful/cleanup"
)

// Policy contains the options for the decisions of the machine. They are valid. The ledger contains the JSON names of
// the fields, which must not change.
type Policy struct {
	Drain     time.Duration // maximum time between the on-stop commands and the first signal
	Grace     time.Duration // without a Schedule: time between the first signal and SIGKILL
	Schedule  []Step        // the steps of a stop before SIGKILL; empty: the stop signal, then Grace
	Rewrite   map[int]int   // maps a received signal to the forwarded one; 0: none
	ForwardTo ForwardTo
	StopOn    []int         // signals that begin a stop
	OnRepeat  OnRepeat      // effect of a repeated stop signal; "": forward
	Timeout   time.Duration // time limit of the target, and of a wait for survivors; 0: none
	Deadline  time.Duration // time limit from a stop to the end of the run; 0: none

	// DeadlineFromOuter means that an outer run has set the deadline. Commands share the deadline, and none is refused for
	// lack of time.
	DeadlineFromOuter bool          `json:"Budget"`
	ReservedTime      time.Duration `json:"Asked"`       // part of the deadline that options reserve before cleanup
	TimeBeforeSignal  time.Duration `json:"Unsignalled"` // part of the deadline before the first signal

	Survivors Survivors

	Order       cleanup.Order
	OnExitLimit time.Duration // limit of cleanup commands that are registered without a limit of their own
	DeferLimit  time.Duration // maximum limit of a registration; 0: OnExitLimit

	PTY bool // the target has a terminal of its own

	Reraise            bool        // graceful ends by the signal that ended the target
	PreserveStatus     bool        // graceful exits with the target's status after the time limit, too
	Remap              map[int]int // maps an exit status to the one that replaces it
	FailOnCleanupError bool

	// UnstartedDelayed means that a cleanup command that could not be started before cleanup is tried again at cleanup
	// (cleanup.Entry.Delayed). It is false in ledgers of earlier versions, in which such a command ends.
	UnstartedDelayed bool `json:"Delays"`
}

// Step is a signal of a stop, and the time for which graceful waits for the end of the target before the next step.
type Step struct {
	Signal int // 0: the stop signal that was received; NoSignal: none
	Wait   time.Duration
}

// NoSignal is the signal of a step that only waits. If a schedule begins with SIGKILL, or with a wait before other
// items, its first step only waits.
const NoSignal = -1

// SigKILL and SigTERM have the same numbers on every system.
const (
	SigKILL = 9
	SigTERM = 15
)

// ForwardTo selects the processes that get forwarded signals. A suspend signal that is not rewritten always goes to the
// group.
type ForwardTo string

// The values of ForwardTo. ForwardToTarget suits a target that stops its own workers.
const (
	ForwardToGroup  ForwardTo = "group"  // the target's process group
	ForwardToTarget ForwardTo = "target" // the target alone
)

// ForwardTos lists the values of ForwardTo, the default first.
func ForwardTos() []ForwardTo { return []ForwardTo{ForwardToGroup, ForwardToTarget} }

// OnRepeat selects the effect of a repeated stop signal.
type OnRepeat string

// The values of OnRepeat.
const (
	RepeatForward OnRepeat = "forward" // the signal is forwarded
	RepeatIgnore  OnRepeat = "ignore"  // no effect
	RepeatKill    OnRepeat = "kill"    // graceful kills the tree; during cleanup it ends the running command
)

// OnRepeatValues lists the values of OnRepeat, the default first.
func OnRepeatValues() []OnRepeat { return []OnRepeat{RepeatForward, RepeatIgnore, RepeatKill} }

// Survivors selects the treatment of survivors.
type Survivors string

// The values of Survivors.
const (
	StopSurvivors Survivors = "stop" // graceful stops them within the rest of the grace period
	WaitSurvivors Survivors = "wait" // graceful waits for them
	KeepSurvivors Survivors = "keep" // graceful leaves them alone
)

// SurvivorsValues lists the values of Survivors, the default first.
func SurvivorsValues() []Survivors { return []Survivors{StopSurvivors, WaitSurvivors, KeepSurvivors} }

// Steps returns the steps of a stop, at least one. SIGKILL follows the last step.
func (p Policy) Steps() []Step {
	if len(p.Schedule) > 0 {
		return p.Schedule
	}
	return []Step{{0, p.Grace}}
}

// Rewritten returns the signal to forward instead of sig, or 0 to forward no signal.
func (p Policy) Rewritten(sig int) int { return mapped(p.Rewrite, sig) }

// mapped returns the value of m for key. If there is none, it returns key itself.
func mapped(m map[int]int, key int) int {
	if value, ok := m[key]; ok {
		return value
	}
	return key
}

const (
	// AbandonAfter is the time that a process may take to end after SIGKILL, unless a deadline runs. Usually, only a
	// process in uninterruptible sleep or of another user takes longer, and then it is useless to wait.
	AbandonAfter = 10 * time.Second
	// CommandKillAfter is the time between SIGTERM and SIGKILL for a command. While a deadline runs, that time may be
	// shorter.
	CommandKillAfter = 2 * time.Second
	// RetryAfter is the time until graceful tries again to start a command after a lack of resources.
	RetryAfter = 50 * time.Millisecond
	// sameStopWindow is the time after the first stop signal during which other stop signals count as the same stop. A
	// caller may signal a process and then the group of that process.
	sameStopWindow = 200 * time.Millisecond
)

// Patience returns the maximum time that a process may take to end after SIGKILL. It is AbandonAfter, or at most half a
// second while a deadline runs.
func (r Run) Patience() time.Duration {
	if r.Stop.DeadlineStarted {
		return r.Policy.Patience()
	}
	return AbandonAfter
}

// Patience returns what Run.Patience returns for a run with this policy. A deadline of the policy counts as running.
func (p Policy) Patience() time.Duration {
	if p.Deadline > 0 {
		return min(p.Deadline/20, time.Second/2)
	}
	return AbandonAfter
}

// commandTimes splits the limit of a command into the time until SIGTERM and the time from SIGTERM to SIGKILL. Without
// a running deadline, the second part is added to the limit.
func (r Run) commandTimes(limit time.Duration) (term, kill time.Duration) {
	if !r.Stop.DeadlineStarted {
		return limit, CommandKillAfter
	}
	kill = min(CommandKillAfter, limit/4)
	return limit - kill, kill
}

// StopBudget is the name of the variable that limits the time of a stop for a run inside another run, or inside a
// cleanup command.
const StopBudget = "GRACEFUL_STOP_BUDGET"

// StopTime returns the maximum time from the first signal of a stop to SIGKILL.
func (r Run) StopTime() (sum time.Duration) {
	for _, step := range r.Policy.Steps() {
		sum = AddDurations(sum, step.Wait)
	}
	if r.Policy.Deadline > 0 {
		sum = min(sum, max(r.StoppingTime()-r.Policy.TimeBeforeSignal, 0))
	}
	return sum
}
