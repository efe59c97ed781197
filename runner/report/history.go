package report

import (
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// History is what the report tells and the machine does not need. It follows from the same events, so that a process that
// resumes a run has it from the ledger, except for the processes that were killed or left. A nil History keeps nothing.
type History struct {
	of             Subject
	received, sent []Signalled
	omitted        int // signals that were too many to be kept
	began          time.Time
	started        time.Time // when the target was started
	stopped        time.Time // when the stop began
	ended          time.Time // when the target ended
	emptied        time.Time // when no member of the tree was left
	usage          *machine.Usage
	failure        string // why the target could not be started
	commands       map[int]span
	killed         []procfs.Process
	left           []procfs.Process // those that SIGKILL did not end
	takenOver      bool
}

// Subject is the run that a report is about.
type Subject struct {
	ID      string
	Name    string
	Command []string
	Dir     string // that it was started in
	Front   int    // pid of the process that the user started
}

// NewHistory is the history of a run that begins.
func NewHistory(of Subject, began time.Time) *History {
	return &History{of: of, began: began, commands: map[int]span{}}
}

// MaxListed bounds each list in a report.
const MaxListed = 1000

// Signalled is a signal that came, or that was sent.
type Signalled struct {
	Time    time.Time `json:"time"`
	Signal  string    `json:"signal"` // TERM
	Number  int       `json:"number"`
	State   string    `json:"state"`             // of the run
	To      string    `json:"to,omitempty"`      // of those that were sent: group, target, survivors, tree, command
	Command int       `json:"command,omitempty"` // its id
}

// span is the life of a command.
type span struct {
	from, to time.Time
	pid      int
}

// happened takes an event and what it has made of the run.
func (h *History) Happened(was, is machine.Run, e machine.Event, at time.Time) {
	if h == nil {
		return
	}
	switch e := e.(type) {
	case machine.TargetStarted:
		h.started = at
	case machine.TargetFailed:
		h.failure = string(e.Err)
	case machine.TargetEnded:
		h.ended, h.usage = at, e.Usage
	case machine.Signalled:
		h.add(&h.received, Signalled{Time: at, State: was.State.String()}, e.Signal)
	case machine.CommandStarted:
		h.commands[e.ID] = span{from: at, pid: e.PID}
	case machine.TreeEmptied:
		if was.State == machine.Sweeping && len(h.left) == 0 {
			h.emptied = at
		}
	case machine.Orphaned, machine.Recovered:
		h.takenOver = true
	case machine.Retried:
		for _, c := range is.Cleanup.Entries {
			if before, _ := was.Cleanup.Get(c.ID); c.Progress < before.Progress { // it is to run again
				delete(h.commands, c.ID)
			}
		}
	}
	if was.State < machine.Stopping && is.State == machine.Stopping || was.State == machine.Sweeping && was.Stop.Step == 0 && is.Stop.Step > 0 {
		h.stopped = at
	}
	for _, id := range was.Cleanup.Active {
		if c, _ := is.Cleanup.Get(id); c.Progress == cleanup.Ended {
			s := h.commands[id]
			s.to = at
			h.commands[id] = s
		}
	}
}

// goOn says that somebody goes on with a run that others have led.
func (h *History) TakeOver() {
	if h != nil {
		h.takenOver = true
	}
}

// did takes what was done about it.
func (h *History) Did(is machine.Run, a machine.Action, at time.Time) {
	if h == nil {
		return
	}
	s := Signalled{Time: at, State: is.State.String()}
	sig := 0
	switch a := a.(type) {
	case machine.ForwardSignal:
		sig, s.To = a.Signal, "group"
		if a.Alone {
			s.To = "target"
		}
	case machine.SignalSurvivors:
		sig, s.To = a.Signal, "survivors"
	case machine.KillTree:
		if is.Cleanup.Clearing {
			return // what commands have left, mostly nobody
		}
		sig, s.To = machine.SigKILL, "tree"
	case machine.TerminateCommand:
		sig, s.To, s.Command = machine.SigTERM, "command", a.ID
	case machine.KillCommand:
		if c, _ := is.Cleanup.Get(a.ID); c.Progress == cleanup.Ended {
			return // what it has left, mostly nobody
		}
		sig, s.To, s.Command = machine.SigKILL, "command", a.ID
	default:
		return
	}
	h.add(&h.sent, s, sig)
}

func (h *History) add(list *[]Signalled, s Signalled, sig int) {
	s.Signal, s.Number = signalName(sig), sig
	if len(*list) == MaxListed {
		h.omitted++
		return
	}
	*list = append(*list, s)
}

// kills tells whether the report is to name one more who is killed now.
func (h *History) Kills(r machine.Run) bool {
	return h != nil && r.State <= machine.Sweeping && len(h.killed) < MaxListed
}

// kill takes one that SIGKILL was sent to. How the target ended is told elsewhere.
func (h *History) Kill(p procfs.Process, r machine.Run) {
	if h.Kills(r) && p.PID != r.Target.PID && !slices.ContainsFunc(h.killed, func(q procfs.Process) bool { return p.Is(q.PID, q.Start) }) {
		h.killed = append(h.killed, p)
	}
}

// Leave takes the processes that SIGKILL does not end.
func (h *History) Leave(left []procfs.Process, r machine.Run) {
	if h == nil || r.State > machine.Sweeping {
		return
	}
	h.left = append(h.left, left...)
	slices.SortFunc(h.left, func(a, b procfs.Process) int { return a.PID - b.PID })
	h.left = h.left[:min(len(h.left), MaxListed)]
}

// Wants reports whether one more received signal is to be recorded for the report.
func (h *History) Wants() bool { return h != nil && len(h.received) < MaxListed }
