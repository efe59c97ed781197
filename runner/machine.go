package runner

import (
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/forward"
)

// State is where a run stands. States move only to the right; a run may skip states.
type State uint8

// The life of a run.
const (
	Starting State = iota
	Running
	Stopping // a stop signal has been passed on; the grace runs
	Killing  // the grace ran out; the target has not ended yet
	Sweeping // the target has ended; the survivors are ended
	Cleaning // the tree is empty; cleanup commands run
	Done
)

func (s State) String() string {
	return [...]string{"starting", "running", "stopping", "killing", "sweeping", "cleaning", "done"}[s]
}

// Ending is how a process ended. The zero value is exit status 0.
type Ending struct {
	Code   int // exit status, 0–255
	Signal int // the signal that ended it, or 0
}

// Status is the ending as a shell reports it: the exit status, or 128+n for signal n.
func (e Ending) Status() int {
	if e.Signal != 0 {
		return 128 + e.Signal
	}
	return e.Code
}

// Run is all that a run must remember. It is a value and holds nothing but data, so that it can be written down
// and another process can go on from it.
type Run struct {
	ID     string
	Config Config
	State  State

	TargetPID   int    // 0 until started
	TargetStart uint64 // its start time (tree.Identity)
	Ended       bool   // the target has ended, or could not be started
	Ending      Ending // valid once Ended
	Failed      bool   // the target could not be started
	StopSignal  int    // the first stop signal before the target ended, or 0
	Escalated   bool   // the grace ran out and SIGKILL was sent
	Orphaned    bool   // the death of one of our own processes ended the run
	Recovered   bool   // the death of both did
	Clearing    bool   // what cleanup commands left behind is being killed
	Duration    time.Duration
	Cleanup     cleanup.Stack
	Deadlines   []Deadline // kept by advance; the machine has no clock
}

// Status is what graceful exits with. A target that was stopped because we failed, and that takes a stop for success,
// has not succeeded.
func (r Run) Status() int {
	if status := r.Ending.Status(); status != 0 || !r.Orphaned {
		return status
	}
	return statusFailed
}

// statusFailed is the exit status for a failure of our own.
const statusFailed = 125

// What can happen to a run.
type (
	targetStarted struct {
		pid   int
		start uint64
	}
	targetFailed struct{ status int } // it could not be started
	targetEnded  struct {
		ending Ending
		after  time.Duration // since the run began
	}
	signalled struct {
		signal  int
		meaning forward.Meaning
	}
	graceOver   struct{}
	treeEmptied struct{} // or all that is left of it is out of our reach
	// commandFailed: it could not be started; when for want of a resource that may come back, it is tried again.
	commandFailed struct {
		id        int
		err       string
		transient bool
	}
	commandStarted struct {
		id, pid int
		start   uint64
	}
	commandEnded struct {
		id     int
		ending Ending
		unseen bool // nobody was its parent: how it ended is not known
	}
	// orphaned: one of our two processes was killed, and the other one ends the run.
	orphaned struct{}
	// recovered: both were killed, and a third goes on. Nobody can tell any more how the target ended.
	recovered struct{ after time.Duration }
	// commandLost: it may have been started, and whether it ended nobody saw.
	commandLost struct{ id int }
	// retried: the commands that were lost are to run again. It alone leads back from Done.
	retried      struct{}
	commandTimer struct {
		id   int
		name timerName
	}
)

type event any

// What the loop is asked to do.
type (
	startTarget   struct{}
	forwardSignal struct { // to the target's group
		signal int  // 0: SIGTERM
		resume bool // SIGCONT after it, so that a stopped process can act on it
	}
	suspend         struct{} // stop ourselves, as the target's group has been asked to
	signalSurvivors struct {
		signal int // 0: SIGTERM
		resume bool
	}
	killTree   struct{} // SIGKILL to all that is left, again and again until treeEmptied
	startTimer struct {
		timer timer
		after time.Duration
	}
	stopTimer        struct{ timer timer }
	startCommand     struct{ id int }
	terminateCommand struct{ id int } // SIGTERM to its group, SIGCONT after it
	killCommand      struct{ id int } // SIGKILL to its group and to all below it
)

type action any

type timerName uint8

const (
	graceTimer   timerName = iota
	retryTimer             // start a command again
	limitTimer             // a command's time is up: SIGTERM
	killTimer              // it had SIGTERM: SIGKILL
	abandonTimer           // it had SIGKILL and is still there: go on without it
)

type timer struct {
	Name timerName
	ID   int // the command, or 0
}

// Deadline is a timer that has been started.
type Deadline struct {
	timer
	At time.Time
}

const (
	// commandKillAfter is how long a cleanup command has between SIGTERM and SIGKILL.
	commandKillAfter = 2 * time.Second
	// abandonAfter is how long a process may take to die of SIGKILL. Only uninterruptible sleep, or another
	// user's process, takes longer, and then no waiting helps.
	abandonAfter = 10 * time.Second
	retryAfter   = 50 * time.Millisecond
)

// advance is next, with the deadlines kept. Who reads of events later goes through it in the same way.
func advance(r Run, e event, now time.Time) (Run, []action) {
	switch e := e.(type) {
	case graceOver:
		r = r.without(timer{Name: graceTimer})
	case commandTimer:
		r = r.without(timer{e.name, e.id})
	}
	r, wanted := next(r, e)
	var todo []action
	for _, a := range wanted {
		switch a := a.(type) {
		case startTimer:
			r = r.without(a.timer)
			r.Deadlines = append(r.Deadlines, Deadline{a.timer, now.Add(a.after)})
		case stopTimer:
			r = r.without(a.timer)
		default:
			todo = append(todo, a)
		}
	}
	return r, todo
}

// without forgets a deadline. The slice is a new one: others may have been shown the old one.
func (r Run) without(t timer) Run {
	r.Deadlines = slices.DeleteFunc(slices.Clone(r.Deadlines), func(d Deadline) bool { return d.timer == t })
	return r
}

// next is the machine: what the run becomes of an event, and what is to be done. It is pure. Events that mean
// nothing in a state change nothing.
func next(r Run, e event) (Run, []action) {
	switch e := e.(type) {
	case targetStarted:
		if r.State == Starting {
			r.State = Running
			r.TargetPID, r.TargetStart = e.pid, e.start
		}
	case targetFailed:
		if r.State == Starting {
			r.Ended, r.Failed, r.Ending = true, true, Ending{Code: e.status}
			return clean(r)
		}
	case signalled:
		return r.signalled(e)
	case graceOver:
		switch r.State {
		case Stopping:
			r.State, r.Escalated = Killing, true
			return r, []action{killTree{}}
		case Sweeping:
			if !r.Escalated {
				r.Escalated = true
				return r, []action{killTree{}}
			}
		}
	case targetEnded:
		return r.targetEnded(e)
	case treeEmptied:
		switch {
		case r.State == Sweeping:
			r, todo := clean(r)
			return r, append([]action{stopTimer{timer{Name: graceTimer}}}, todo...)
		case r.State == Cleaning && r.Clearing:
			return clean(r)
		}
	case commandStarted:
		if r.claimed(e.id) {
			r.Cleanup = r.Cleanup.Update(e.id, func(c *cleanup.Entry) { c.PID, c.Start = e.pid, e.start })
		}
	case commandFailed:
		if c, _ := r.Cleanup.Get(e.id); !r.claimed(e.id) || c.PID != 0 {
			break
		}
		if e.transient {
			return r, []action{startTimer{timer{retryTimer, e.id}, retryAfter}}
		}
		return r.commandEnded(e.id, cleanup.Outcome{Error: e.err})
	case commandEnded:
		if !r.claimed(e.id) {
			break
		}
		if e.unseen {
			// Its id may be another process's by now.
			r.Cleanup = r.Cleanup.Update(e.id, func(c *cleanup.Entry) { c.PID, c.Start = 0, 0 })
			return r.commandEnded(e.id, cleanup.Outcome{Error: "it ended, and nobody knows how"})
		}
		return r.commandEnded(e.id, cleanup.Outcome{Code: e.ending.Code, Signal: e.ending.Signal})
	case commandLost:
		if r.claimed(e.id) {
			// Its id may be another process's by now.
			r.Cleanup = r.Cleanup.Update(e.id, func(c *cleanup.Entry) { c.PID, c.Start = 0, 0 })
			return r.commandEnded(e.id, cleanup.Outcome{Interrupted: true})
		}
	case retried:
		return r.retried()
	case orphaned:
		switch r.State {
		case Starting:
			r.Orphaned, r.Ended, r.Failed, r.Ending = true, true, true, Ending{Code: statusFailed}
			return clean(r)
		case Running:
			r.Orphaned, r.State = true, Stopping
			return r, append(resume(r), startTimer{timer{Name: graceTimer}, r.Config.Grace})
		}
	case recovered:
		if r.State < Sweeping {
			r.Recovered = true
			if r.State == Starting {
				r.State = Running
			}
			return r.targetEnded(targetEnded{Ending{Code: statusFailed}, e.after})
		}
	case commandTimer:
		if r.claimed(e.id) {
			return r.commandTimer(e)
		}
	}
	return r, nil
}

// resume is what is to be done, perhaps again, by who goes on with a run that another process has led so far: that one
// may have been killed after it had decided on it and before it was done.
func resume(r Run) (todo []action) {
	switch r.State {
	case Stopping:
		return []action{forwardSignal{signal: r.StopSignal, resume: true}}
	case Killing:
		return []action{killTree{}}
	case Sweeping:
		if r.Escalated {
			return []action{killTree{}}
		}
		return []action{signalSurvivors{resume: true}}
	case Cleaning:
		if r.Clearing {
			return []action{killTree{}}
		}
		for _, c := range r.Cleanup.Entries {
			switch {
			case c.Progress != cleanup.Claimed:
			case c.PID == 0:
				todo = append(todo, startCommand{c.ID})
			case c.TimedOut:
				todo = append(todo, terminateCommand{c.ID})
			}
		}
	}
	return todo
}

// retried gives the commands that were lost back to be run.
func (r Run) retried() (Run, []action) {
	lost := false
	for _, c := range r.Cleanup.Entries {
		if c.Progress == cleanup.Ended && c.Outcome.Interrupted {
			lost = true
			r.Cleanup = r.Cleanup.Update(c.ID, func(c *cleanup.Entry) {
				*c = cleanup.Entry{ID: c.ID, Command: c.Command}
			})
		}
	}
	if !lost || r.State < Cleaning || r.Clearing || r.Cleanup.Running() > 0 {
		return r, nil // they come in their turn
	}
	return clean(r)
}

func (r Run) signalled(e signalled) (Run, []action) {
	stop := e.meaning == forward.Stop
	switch r.State {
	case Running, Stopping:
		switch e.meaning {
		case forward.Stop, forward.Pass:
			todo := []action{forwardSignal{signal: e.signal, resume: stop}}
			if stop && r.State == Running {
				r.State, r.StopSignal = Stopping, e.signal
				todo = append(todo, startTimer{timer{Name: graceTimer}, r.Config.Grace})
			}
			return r, todo
		case forward.Suspend:
			return r, []action{forwardSignal{signal: e.signal}, suspend{}}
		}
	case Sweeping:
		if !r.Escalated && (stop || e.meaning == forward.Pass) {
			return r, []action{signalSurvivors{signal: e.signal, resume: stop}}
		}
	}
	return r, nil
}

func (r Run) targetEnded(e targetEnded) (Run, []action) {
	was := r.State
	if was != Running && was != Stopping && was != Killing {
		return r, nil
	}
	r.State, r.Ended, r.Ending, r.Duration = Sweeping, true, e.ending, e.after
	switch was {
	case Killing:
		return r, []action{killTree{}}
	case Stopping: // the grace goes on
		return r, []action{signalSurvivors{resume: true}}
	}
	return r, []action{signalSurvivors{resume: true}, startTimer{timer{Name: graceTimer}, r.Config.Grace}}
}

// clean goes on with the cleanup commands, or ends the run when there is none left.
func clean(r Run) (Run, []action) {
	r.State, r.Clearing = Cleaning, false
	var claimed []int
	r.Cleanup, claimed = r.Cleanup.Claim()
	if len(claimed) == 0 && r.Cleanup.Running() == 0 {
		r.State = Done
		return r, nil
	}
	var todo []action
	for _, id := range claimed {
		entry, _ := r.Cleanup.Get(id)
		// The timer first: a command that cannot be started stops it.
		todo = append(todo, startTimer{timer{limitTimer, id}, entry.Command.Limit}, startCommand{id})
	}
	return r, todo
}

func (r Run) claimed(id int) bool {
	c, ok := r.Cleanup.Get(id)
	return r.State == Cleaning && ok && c.Progress == cleanup.Claimed
}

// commandEnded takes a command's outcome. What it started goes with it; the next one waits for that. Of commands
// in parallel each takes its own group with it, and the last one all that has left the groups.
func (r Run) commandEnded(id int, o cleanup.Outcome) (Run, []action) {
	r.Cleanup = r.Cleanup.Update(id, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, o })
	var todo []action
	for _, name := range []timerName{retryTimer, limitTimer, killTimer, abandonTimer} {
		todo = append(todo, stopTimer{timer{name, id}})
	}
	if c, _ := r.Cleanup.Get(id); c.PID != 0 {
		todo = append(todo, killCommand{id})
	}
	if r.Cleanup.Running() == 0 {
		r.Clearing = true
		todo = append(todo, killTree{})
	}
	return r, todo
}

func (r Run) commandTimer(e commandTimer) (Run, []action) {
	c, _ := r.Cleanup.Get(e.id)
	switch e.name {
	case retryTimer:
		if c.PID == 0 {
			return r, []action{startCommand{e.id}}
		}
	case limitTimer:
		r.Cleanup = r.Cleanup.Update(e.id, func(c *cleanup.Entry) { c.TimedOut = true })
		if c.PID == 0 {
			return r.commandEnded(e.id, cleanup.Outcome{Error: "could not be started within its time limit"})
		}
		return r, []action{terminateCommand{e.id}, startTimer{timer{killTimer, e.id}, commandKillAfter}}
	case killTimer:
		return r, []action{killCommand{e.id}, startTimer{timer{abandonTimer, e.id}, abandonAfter}}
	case abandonTimer:
		return r.commandEnded(e.id, cleanup.Outcome{Error: "did not die of SIGKILL"})
	}
	return r, nil
}
