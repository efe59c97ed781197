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
	Stopping // a stop has begun; see Phase
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
	Cgroup string // directory of the one that the target runs in; "": none
	Socket string // address at which commands are registered; "": nowhere
	State  State

	TargetPID   int    // 0 until started
	TargetStart uint64 // its start time (tree.Identity)
	Ended       bool   // the target has ended, or could not be started
	Ending      Ending // valid once Ended
	Failed      bool   // the target could not be started
	Duration    time.Duration

	StopSignal int   // the first stop signal before the target ended, or 0
	TimedOut   bool  // the time limit ended the run
	Orphaned   bool  // the death of one of our own processes did
	Recovered  bool  // the death of both did
	Escalated  bool  // the grace ran out, or was cut, and SIGKILL was sent
	Phase      Phase // of a stop
	Step       int   // how many steps of the schedule have begun
	Held       []int // stop signals that are passed on when the first step begins
	Stops      int   // stop signals that came
	Bounded    bool  // the deadline runs

	Cuts      int  // how often cleanup commands were cut short
	Relaying  bool // the rest of the target's output is on its way; cleanup waits for it
	Clearing  bool // what cleanup commands left behind is being killed
	Cleanup   cleanup.Stack
	Recorded  int        // size of the records of registrations, in bytes (sizeOf)
	Deadlines []Deadline // kept by advance; the machine has no clock
}

// statusFailed is the exit status for a failure of our own, statusTimedOut for that of the time limit (timeout(1)).
const (
	statusTimedOut = 124
	statusFailed   = 125
)

// Status is what graceful exits with. A target that was stopped because we failed, and that takes a stop for success,
// has not succeeded.
func (r Run) Status() int {
	status := r.Ending.Status()
	switch {
	case r.TimedOut:
		status = statusTimedOut
	case r.Orphaned && status == 0:
		status = statusFailed
	}
	status = r.Config.remap(status)
	if status == 0 && r.Config.FailOnCleanupError && slices.ContainsFunc(r.Cleanup.Entries, failed) {
		status = r.Config.remap(statusFailed)
	}
	return status
}

// Raise is the signal by which graceful is to end itself, or 0: then it exits with Status.
func (r Run) Raise() int {
	if sig := r.Ending.Signal; r.Config.Reraise && sig != 0 && !r.TimedOut && r.Status() == 128+sig {
		return sig
	}
	return 0
}

func failed(c *cleanup.Entry) bool {
	return c.When == cleanup.AtExit && c.Progress == cleanup.Ended && (c.TimedOut || c.Cut || c.Outcome.Failed())
}

// What can happen to a run.
type (
	targetStarted struct {
		pid   int
		start uint64
	}
	targetFailed struct { // it could not be started
		status int
		err    string // for the report
	}
	targetEnded struct {
		ending Ending
		after  time.Duration // since the run began
		usage  *Usage        // for the report, where it is known
	}
	signalled struct {
		signal  int
		meaning forward.Meaning
	}
	timeUp      struct{ name timerName } // of the run's own timers
	treeEmptied struct{}                 // or all that is left of it is out of our reach
	relayed     struct{}                 // what the target has written on its terminal, as far as somebody reads it
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
	// commandLost: a cleanup command may have been started, and whether it ended nobody saw.
	commandLost struct{ id int }
	// retried: the commands that were lost are to run again. It alone leads back from Done.
	retried struct{}
	// registered: a command is to join the others. What is left of the deadline counts when it runs.
	registered struct {
		entry  cleanup.Entry
		left   time.Duration
		replay bool // it was read from the ledger, so that there was room for it
	}
	withdrawn struct {
		id   int
		left time.Duration
	}
	// exited: the process that a command waits for has ended.
	exited       struct{ id int }
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
		signal int
		alone  bool // to the target alone
		resume bool // SIGCONT after it, so that a stopped process can act on it
	}
	suspend         struct{} // stop ourselves, as the target's group has been asked to
	signalSurvivors struct {
		signal  int
		resume  bool
		unasked bool // only those that have had no stop signal with their group
	}
	keepSurvivors struct{} // who is in the tree now is no longer our business
	killTree      struct{} // SIGKILL to all that is left, again and again until treeEmptied
	relayRest     struct{} // of what the target has written on its terminal
	startTimer    struct {
		timer timer
		after time.Duration
	}
	stopTimer        struct{ timer timer }
	startCommand     struct{ id int }
	terminateCommand struct{ id int } // SIGTERM to its group, SIGCONT after it
	killCommand      struct{ id int } // SIGKILL to its group and to all below it
	// answer is for who has asked for a command to be registered or withdrawn.
	answer struct {
		id      int
		refusal string // "": done
	}
)

type action any

type timerName uint8

const (
	graceTimer    timerName = iota // of a step: the next one
	retryTimer                     // start a command again
	limitTimer                     // a command's time is up: SIGTERM
	killTimer                      // it had SIGTERM: SIGKILL
	abandonTimer                   // it had SIGKILL and is still there: go on without it
	drainTimer                     // the signals begin
	timeoutTimer                   // the target has run long enough
	deadlineTimer                  // what is left of the time for a stop belongs to the cleanup commands
)

func (n timerName) String() string {
	return [...]string{"grace", "retry", "limit", "kill", "abandon", "drain", "timeout", "deadline"}[n]
}

type timer struct {
	Name timerName
	ID   int // the command, or 0
}

// Deadline is a timer that has been started.
type Deadline struct {
	timer
	At time.Time
}

// advance is next, with the deadlines kept. Who reads of events later goes through it in the same way.
func advance(r Run, e event, now time.Time) (Run, []action) {
	switch e := e.(type) {
	case timeUp:
		r = r.without(timer{Name: e.name})
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

// moved tells whether a signal, or a request, has made of a run anything but what it was.
func (r Run) moved(was Run) bool {
	return r.State != was.State || r.Phase != was.Phase || r.Step != was.Step || r.Stops != was.Stops || r.StopSignal != was.StopSignal ||
		len(r.Held) != len(was.Held) || r.Cuts != was.Cuts || r.Cleanup.Changes != was.Cleanup.Changes
}

// next is the machine: what the run becomes of an event, and what is to be done. It is pure. Events that mean
// nothing in a state change nothing.
func next(r Run, e event) (Run, []action) {
	switch e := e.(type) {
	case targetStarted:
		if r.State == Starting {
			r.State = Running
			r.TargetPID, r.TargetStart = e.pid, e.start
			if r.Config.Timeout > 0 {
				return r, []action{startTimer{timer{Name: timeoutTimer}, r.Config.Timeout}}
			}
		}
	case targetFailed:
		if r.State == Starting {
			r.Ended, r.Failed, r.Ending = true, true, Ending{Code: e.status}
			return clean(r)
		}
	case signalled:
		return r.signalled(e)
	case timeUp:
		return r.timeUp(e.name)
	case targetEnded:
		return r.targetEnded(e)
	case treeEmptied:
		if r.State == Sweeping || r.State == Cleaning && r.Clearing {
			return clean(r)
		}
	case relayed:
		if r.Relaying {
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
		switch {
		case !r.claimed(e.id):
		case e.unseen:
			return r.forget(e.id).commandEnded(e.id, cleanup.Outcome{Error: wasUnseen})
		default:
			return r.commandEnded(e.id, cleanup.Outcome{Code: e.ending.Code, Signal: e.ending.Signal})
		}
	case commandLost:
		if c, _ := r.Cleanup.Get(e.id); r.claimed(e.id) && c.When == cleanup.AtExit {
			return r.forget(e.id).commandEnded(e.id, cleanup.Outcome{Interrupted: true})
		}
	case retried:
		return r.retried()
	case registered:
		return r.registered(e)
	case withdrawn:
		return r.withdrawn(e)
	case exited:
		return r.exited(e.id)
	case orphaned:
		switch {
		case r.State == Starting:
			r.Orphaned, r.Ended, r.Failed, r.Ending = true, true, true, Ending{Code: statusFailed}
			return clean(r)
		case r.State == Running:
			r.Orphaned = true
			return r.stop()
		case r.State == Sweeping && r.waiting():
			r, todo := r.bound()
			return r.press(todo)
		}
	case recovered:
		if r.State < Sweeping {
			r.Recovered = true
			if r.State == Starting {
				r.State = Running
			}
			for _, id := range r.Cleanup.Running(cleanup.AtStop) { // if it lives, it is part of the tree
				r.Cleanup = r.forget(id).Cleanup.Update(id, func(c *cleanup.Entry) {
					c.Progress, c.Outcome = cleanup.Ended, cleanup.Outcome{Error: wasInterrupted}
				})
			}
			if r.Ended {
				return r.sweep()
			}
			return r.targetEnded(targetEnded{ending: Ending{Code: statusFailed}, after: e.after})
		}
	case commandTimer:
		if r.claimed(e.id) {
			return r.commandTimer(e)
		}
	}
	return r, nil
}

func (r Run) targetEnded(e targetEnded) (Run, []action) {
	if r.State != Running && r.State != Stopping && r.State != Killing || r.Ended {
		return r, nil
	}
	r.Ended, r.Ending, r.Duration = true, e.ending, e.after
	if len(r.Cleanup.Running(cleanup.AtStop)) > 0 && r.State == Stopping {
		return r, nil // that one does its work first
	}
	return r.sweep()
}

// resume is what is to be done, perhaps again, by who goes on with a run that another process has led so far: that one
// may have been killed after it had decided on it and before it was done.
func resume(r Run) (todo []action) {
	switch {
	case r.State == Killing, r.State == Sweeping && r.Escalated:
		todo = []action{killTree{}}
	case r.State == Sweeping && r.waiting():
	case r.State == Sweeping, r.State == Stopping && r.Phase == Signalling:
		todo = r.send(r.current(), true)
	case r.State == Cleaning && r.keeps() && !r.Escalated:
		todo = []action{keepSurvivors{}}
	}
	if r.Relaying {
		return append(todo, relayRest{})
	}
	if r.Clearing {
		return append(todo, killTree{})
	}
	for _, c := range r.Cleanup.Entries {
		switch {
		case c.Progress != cleanup.Claimed:
		case c.PID == 0 && r.starts(c.When):
			todo = append(todo, startCommand{c.ID})
		case c.PID == 0:
		case !r.starts(c.When):
			todo = append(todo, killCommand{c.ID})
		case c.TimedOut || c.Cut:
			todo = append(todo, terminateCommand{c.ID})
		}
	}
	return todo
}

// starts tells whether commands of that moment that are claimed are started now.
func (r Run) starts(when cleanup.When) bool { return when != cleanup.AtStop || r.State == Stopping }
