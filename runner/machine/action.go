package machine

import "time"

// Action is a request of the machine to graceful: one of the types below.
type Action any

// These actions change the target and its tree.
type (
	// StartTarget starts the target. The caller performs it when the run begins. Next never returns it.
	StartTarget struct{}
	// ForwardSignal sends a signal to the target's process group, or to the target alone.
	ForwardSignal struct {
		Signal int
		Alone  bool // the signal goes only to the target
		Resume bool // SIGCONT follows, so that a suspended process can handle the signal
	}
	// Suspend suspends graceful itself as soon as the signal of the preceding ForwardSignal has suspended the target.
	Suspend struct{}
	// SignalSurvivors sends a signal to the survivors.
	SignalSurvivors struct {
		Signal int
		Resume bool // SIGCONT follows
		Rest   bool // the signal goes only to survivors that have received no stop signal
	}
	// LeaveSurvivors makes graceful leave all present members of the tree alone.
	LeaveSurvivors struct{}
	// KillTree sends SIGKILL to the tree repeatedly until TreeEmptied. In Killing, while KeepsSurvivors is true, it
	// sends SIGKILL only to the target's process group, until TargetEnded.
	KillTree struct{}
	// RelayRest relays the output on the target's terminal that graceful has not read yet. Relayed follows.
	RelayRest struct{}
)

// These actions change commands.
type (
	// StartCommand starts a claimed command.
	StartCommand struct{ ID int }
	// TerminateCommand sends SIGTERM, then SIGCONT, to the command's process group.
	TerminateCommand struct{ ID int }
	// KillCommand sends SIGKILL to the command's process group and to all descendants of the command.
	KillCommand struct{ ID int }
	// Answer replies to the process that asked to register or to withdraw a command.
	Answer struct {
		ID      int    // id of the command; 0: a registration was refused
		Refusal string // empty: the request was granted
	}
)

// startTimer starts or restarts a timer. Advance performs it.
type startTimer struct {
	timer       Timer
	after       time.Duration
	share       int  // while the budget timer runs, after is at most 1/share of its remaining time; 0: no limit
	shortenOnly bool // the action only shortens a running timer, and starts none
}

// stopTimer stops a timer if the timer runs. Advance performs it.
type stopTimer struct{ timer Timer }

// stopTimers returns the actions that stop timers of the command id. If id is 0, the timers belong to the run.
func stopTimers(id int, names ...TimerName) (actions []Action) {
	for _, name := range names {
		actions = append(actions, stopTimer{Timer{name, id}})
	}
	return actions
}

// timer returns the action that starts a timer of a command. If id is 0, the timer belongs to the run.
func timer(name TimerName, id int, after time.Duration) startTimer {
	return startTimer{timer: Timer{name, id}, after: after}
}

// decision contains a run after an event, and the actions that follow, in order.
type decision struct {
	Run
	actions []Action
}

func (d *decision) emit(actions ...Action) { d.actions = append(d.actions, actions...) }
