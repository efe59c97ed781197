package machine

import (
	"time"

	"graceful/cleanup"
)

// Policy holds the options that the machine decides by. They are valid. The field names stand in the ledger.
type Policy struct {
	Drain       time.Duration // between the on-stop commands and the first signal
	Grace       time.Duration // between the first signal and SIGKILL
	Schedule    []Step        // the steps of a stop before SIGKILL; empty: the stop signal, then Grace
	Rewrite     map[int]int   // signal received → signal forwarded; 0: none
	ForwardTo   ForwardTo
	StopOn      []int         // signals that begin a stop
	OnRepeat    OnRepeat      // what a repeated stop signal does; "": forward
	Timeout     time.Duration // time limit of the target; 0: none
	Deadline    time.Duration // time limit of all that follows a stop; 0: none
	Budget      bool          // an outer run set the deadline: commands share it, and none is refused for it
	Asked       time.Duration // what the user asked for a stop before cleanup, of the deadline
	Unsignalled time.Duration // the part of the deadline before the first signal

	Survivors Survivors

	Order       cleanup.Order
	OnExitLimit time.Duration // of cleanup commands that are registered without a limit
	DeferLimit  time.Duration // the longest limit that a registration may ask for; 0: OnExitLimit

	PTY bool // the target has a terminal of its own

	Reraise            bool        // end by the signal that ended the target
	PreserveStatus     bool        // exit with the target's status at its time limit, too
	Remap              map[int]int // exit status → exit status that replaces it
	FailOnCleanupError bool

	Delays bool // see cleanup.Entry.Delayed; false in ledgers of earlier versions, which have recorded another order
}

// Step is a signal of a stop, and the time that the target has to end before the next step.
type Step struct {
	Signal int // 0: the stop signal that was received; NoSignal: none
	Wait   time.Duration
}

// NoSignal is the signal of a step that only waits. A schedule has one where it begins with a wait or with SIGKILL.
const NoSignal = -1

// SigKILL and SigTERM have the same numbers on every system.
const (
	SigKILL = 9
	SigTERM = 15
)

// ForwardTo selects the processes that get forwarded signals.
type ForwardTo string

// The choices of ForwardTo. A target that stops its own workers wants ForwardToTarget.
const (
	ForwardToGroup  ForwardTo = "group"  // the target's process group
	ForwardToTarget ForwardTo = "target" // the target alone
)

// ForwardTos lists the choices, the default first.
func ForwardTos() []ForwardTo { return []ForwardTo{ForwardToGroup, ForwardToTarget} }

// OnRepeat selects what a repeated stop signal does.
type OnRepeat string

// The choices of OnRepeat.
const (
	RepeatForward OnRepeat = "forward" // it is forwarded
	RepeatIgnore  OnRepeat = "ignore"  // nothing
	RepeatKill    OnRepeat = "kill"    // the tree is killed; during cleanup, the running command is ended
)

// OnRepeats lists the choices, the default first.
func OnRepeats() []OnRepeat { return []OnRepeat{RepeatForward, RepeatIgnore, RepeatKill} }

// Survivors selects what happens to survivors.
type Survivors string

// The choices of Survivors.
const (
	StopSurvivors Survivors = "stop" // they get what is left of the grace
	WaitSurvivors Survivors = "wait" // graceful waits for them
	KeepSurvivors Survivors = "keep" // graceful leaves them alone
)

// AllSurvivors lists the choices, the default first.
func AllSurvivors() []Survivors { return []Survivors{StopSurvivors, WaitSurvivors, KeepSurvivors} }

// Steps returns the steps of a stop, at least one. SIGKILL follows the last.
func (p Policy) Steps() []Step {
	if len(p.Schedule) > 0 {
		return p.Schedule
	}
	return []Step{{0, p.Grace}}
}

// Rewritten returns the signal that is forwarded in place of sig; 0: none.
func (p Policy) Rewritten(sig int) int { return mapped(p.Rewrite, sig) }

// mapped returns the value that m has for key, or key itself.
func mapped(m map[int]int, key int) int {
	if value, ok := m[key]; ok {
		return value
	}
	return key
}

const (
	// AbandonAfter is the time that a process has to die of SIGKILL. Only a process in uninterruptible sleep, or of
	// another user, needs more, and waiting does not help there.
	AbandonAfter = 10 * time.Second
	// CommandKillAfter is the time that a command has between SIGTERM and SIGKILL.
	CommandKillAfter = 2 * time.Second
	// RetryAfter is the pause before a command is started again for want of a resource.
	RetryAfter = 50 * time.Millisecond
	// sameStop is how long after the first stop signal others belong to the same stop: a caller may signal a process,
	// then its group.
	sameStop = 200 * time.Millisecond
)

// Patience returns the time that a process has to die of SIGKILL: AbandonAfter, or at most half a second while a
// deadline runs.
func (r Run) Patience() time.Duration {
	if r.Stop.Bounded {
		return r.Policy.Patience()
	}
	return AbandonAfter
}

// Patience is that of a Run whose deadline, if it has one, runs.
func (p Policy) Patience() time.Duration {
	if p.Deadline > 0 {
		return min(p.Deadline/20, time.Second/2)
	}
	return AbandonAfter
}

// commandTimes splits a command's limit: the time until SIGTERM, and from then until SIGKILL. Unless a deadline runs,
// the second part comes on top.
func (r Run) commandTimes(limit time.Duration) (term, kill time.Duration) {
	if !r.Stop.Bounded {
		return limit, CommandKillAfter
	}
	kill = min(CommandKillAfter, limit/4)
	return limit - kill, kill
}

// StopBudget is the variable that tells a run inside a run, or inside a cleanup command, how long its stop may take.
const StopBudget = "GRACEFUL_STOP_BUDGET"

// StopTime returns the time from the first signal of a stop to SIGKILL.
func (r Run) StopTime() (sum time.Duration) {
	for _, step := range r.Policy.Steps() {
		sum = addCapped(sum, step.Wait)
	}
	if r.Policy.Deadline > 0 {
		sum = min(sum, max(r.StoppingTime()-r.Policy.Unsignalled, 0))
	}
	return sum
}
