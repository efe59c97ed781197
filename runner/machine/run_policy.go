package machine

import (
	"time"

	"graceful/cleanup"
)

// Policy is what the machine decides by. It has been checked.
type Policy struct {
	Drain        time.Duration // between the on-stop commands and the first signal
	Grace        time.Duration // between the first signal and SIGKILL
	Schedule     []Step        // the signals of a stop, when it is not the one that came; SIGKILL follows
	Rewrite      map[int]int   // signals that are forwarded as others; as 0: not at all
	ForwardTo    ForwardTo
	KillOnRepeat bool          // a second stop signal is SIGKILL
	Timeout      time.Duration // of the target; 0: none
	Deadline     time.Duration // of all that follows a stop; 0: none
	Asked        time.Duration // what a stop before cleanup takes under it, as far as that was asked for
	Unsignalled  time.Duration // the part of that which comes before the first signal

	Survivors Survivors

	Order       cleanup.Order
	OnExitLimit time.Duration // of commands that are registered without one

	PTY bool // the target has a terminal of its own

	Reraise            bool        // end by the signal that ended the target
	Remap              map[int]int // exit statuses that are changed into others
	FailOnCleanupError bool
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

// steps is the schedule of a stop. SIGKILL comes after it.
func (p Policy) Steps() []Step {
	if len(p.Schedule) > 0 {
		return p.Schedule
	}
	return []Step{{0, p.Grace}}
}

// rewritten is the signal that is passed on in another's place; 0: none.
func (p Policy) Rewritten(sig int) int {
	if to, ok := p.Rewrite[sig]; ok {
		return to
	}
	return sig
}

func (p Policy) remap(status int) int {
	if to, ok := p.Remap[status]; ok {
		return to
	}
	return status
}

// patience is abandonAfter, or what a deadline leaves for it.
func (p Policy) Patience() time.Duration {
	if p.Deadline > 0 {
		return min(AbandonAfter, p.Deadline/20, time.Second/2)
	}
	return AbandonAfter
}

// allowance is the time that a command has until SIGTERM, and from then until SIGKILL. Under a deadline both are
// within its limit.
func (p Policy) allowance(limit time.Duration) (term, kill time.Duration) {
	if p.Deadline == 0 {
		return limit, CommandKillAfter
	}
	kill = min(CommandKillAfter, limit/4)
	return limit - kill, kill
}
