package machine

import (
	"slices"
	"time"
)

// TimerName names a kind of timer. The ledger contains its number.
type TimerName uint8

// The timers. Each comment describes the effect of the timer's end.
const (
	GraceTimer    TimerName = iota // the next step of the schedule begins, or SIGKILL follows the last step
	RetryTimer                     // the start of a command is tried again
	LimitTimer                     // a command has run too long and gets SIGTERM
	KillTimer                      // a command has not ended after SIGTERM and gets SIGKILL
	AbandonTimer                   // a command has not ended after SIGKILL, and graceful stops waiting for it
	DrainTimer                     // the drain is over, and the first step begins
	TimeoutTimer                   // the target or the wait for survivors has taken too long, and a stop begins
	DeadlineTimer                  // the tree is killed, because the cleanup commands need the rest of the deadline
	SameStopTimer                  // from now on a stop signal counts as repeated
	BudgetTimer                    // nothing; while the timer runs, startTimer.share limits other timers
)

func (n TimerName) String() string {
	return [...]string{
		"grace", "retry", "limit", "kill", "abandon", "drain", "timeout", "deadline", "same stop", "budget",
	}[n]
}

// Timer identifies a timer. At most one timer with the same name and id runs.
type Timer struct {
	Name TimerName
	ID   int // id of the command; 0: a timer of the run
}

// Deadline is a running timer and the time at which it ends.
type Deadline struct {
	Timer
	At time.Time
}

// Advance applies Next to r at the time now, and maintains r.Deadlines. Live runs and replay both use Advance. It
// performs the actions that start or stop timers, and returns the others.
func Advance(r Run, e Event, now time.Time) (Run, []Action) {
	switch e := e.(type) {
	case TimeUp:
		r = r.withoutTimer(Timer{Name: e.Name})
	case CommandTimer:
		r = r.withoutTimer(Timer{e.Name, e.ID})
	}
	r, decided := Next(r, e)
	var actions []Action
	for _, a := range decided {
		switch a := a.(type) {
		case startTimer:
			at := now.Add(a.after)
			if end, ok := r.Due(Timer{Name: BudgetTimer}); ok && a.share > 0 {
				at = earlier(at, now.Add(max(end.Sub(now), 0)/time.Duration(a.share)))
			}
			if a.shortenOnly {
				was, runs := r.Due(a.timer)
				if !runs {
					continue
				}
				at = earlier(at, was)
			}
			r = r.withoutTimer(a.timer)
			r.Deadlines = append(r.Deadlines, Deadline{a.timer, at})
		case stopTimer:
			r = r.withoutTimer(a.timer)
		default:
			actions = append(actions, a)
		}
	}
	return r, actions
}

// WithoutBudget returns the run without the timer that an outer run's budget sets.
func (r Run) WithoutBudget() Run { return r.withoutTimer(Timer{Name: BudgetTimer}) }

// Due returns the time at which a timer ends. ok is false if the timer does not run.
func (r Run) Due(t Timer) (at time.Time, ok bool) {
	i := slices.IndexFunc(r.Deadlines, func(d Deadline) bool { return d.Timer == t })
	if i < 0 {
		return at, false
	}
	return r.Deadlines[i].At, true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// withoutTimer returns the run without a timer in r.Deadlines. It copies the slice, because earlier values of the run
// share the original.
func (r Run) withoutTimer(t Timer) Run {
	r.Deadlines = slices.DeleteFunc(slices.Clone(r.Deadlines), func(d Deadline) bool { return d.Timer == t })
	return r
}
