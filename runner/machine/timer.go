package machine

import (
	"slices"
	"time"
)

// TimerName names a kind of timer. Its number stands in the ledger.
type TimerName uint8

// The timers, and what happens when each one ends.
const (
	GraceTimer    TimerName = iota // the next step of the schedule begins
	RetryTimer                     // a command is started again
	LimitTimer                     // a command has run too long and gets SIGTERM
	KillTimer                      // a command has not ended after SIGTERM and gets SIGKILL
	AbandonTimer                   // a command has not ended after SIGKILL and is given up
	DrainTimer                     // the drain is over, and the first step begins
	TimeoutTimer                   // the target has run too long, and a stop begins
	DeadlineTimer                  // the tree is killed: the cleanup commands need the rest of the deadline
)

func (n TimerName) String() string {
	return [...]string{"grace", "retry", "limit", "kill", "abandon", "drain", "timeout", "deadline"}[n]
}

// Timer identifies one timer. At most one with the same name and id runs.
type Timer struct {
	Name TimerName
	ID   int // the command, or 0 for a timer of the run
}

// Deadline is a running timer and the time at which it ends.
type Deadline struct {
	Timer
	At time.Time
}

// Advance applies Next to r and maintains r.Deadlines. Live runs and replay both use it. The returned actions contain
// no timers.
func Advance(r Run, e Event, now time.Time) (Run, []Action) {
	switch e := e.(type) {
	case TimeUp:
		r = r.withoutTimer(Timer{Name: e.Name})
	case CommandTimer:
		r = r.withoutTimer(Timer{e.Name, e.ID})
	}
	r, decided := Next(r, e)
	var todo []Action
	for _, a := range decided {
		switch a := a.(type) {
		case startTimer:
			r = r.withoutTimer(a.timer)
			r.Deadlines = append(r.Deadlines, Deadline{a.timer, now.Add(a.after)})
		case stopTimer:
			r = r.withoutTimer(a.timer)
		default:
			todo = append(todo, a)
		}
	}
	return r, todo
}

// withoutTimer removes a timer from r.Deadlines. It copies the slice, because earlier values of the run share it.
func (r Run) withoutTimer(t Timer) Run {
	r.Deadlines = slices.DeleteFunc(slices.Clone(r.Deadlines), func(d Deadline) bool { return d.Timer == t })
	return r
}
