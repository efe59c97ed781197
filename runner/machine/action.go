package machine

import "time"

// What the loop is asked to do.
type (
	StartTarget   struct{}
	ForwardSignal struct { // to the target's group
		Signal int
		Alone  bool // to the target alone
		Resume bool // SIGCONT after it, so that a stopped process can act on it
	}
	Suspend         struct{} // stop ourselves, as the target's group has been asked to
	SignalSurvivors struct {
		Signal  int
		Resume  bool
		Unasked bool // only those that have had no stop signal with their group
	}
	LeaveSurvivors struct{} // who is in the tree now is no longer our business
	KillTree       struct{} // SIGKILL to all that is left, again and again until treeEmptied
	RelayRest      struct{} // of what the target has written on its terminal
	startTimer     struct {
		timer Timer
		after time.Duration
	}
	stopTimer        struct{ timer Timer }
	StartCommand     struct{ ID int }
	TerminateCommand struct{ ID int } // SIGTERM to its group, SIGCONT after it
	KillCommand      struct{ ID int } // SIGKILL to its group and to all below it
	// answer is for who has asked for a command to be registered or withdrawn.
	Answer struct {
		ID      int
		Refusal string // "": done
	}
)

type Action any

type TimerName uint8

const (
	GraceTimer    TimerName = iota // of a step: the next one
	RetryTimer                     // start a command again
	LimitTimer                     // a command's time is up: SIGTERM
	KillTimer                      // it had SIGTERM: SIGKILL
	AbandonTimer                   // it had SIGKILL and is still there: go on without it
	DrainTimer                     // the signals begin
	TimeoutTimer                   // the target has run long enough
	DeadlineTimer                  // what is left of the time for a stop belongs to the cleanup commands
)

func (n TimerName) String() string {
	return [...]string{"grace", "retry", "limit", "kill", "abandon", "drain", "timeout", "deadline"}[n]
}

type Timer struct {
	Name TimerName
	ID   int // the command, or 0
}

// Deadline is a timer that has been started.
type Deadline struct {
	Timer
	At time.Time
}
