package report

import (
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// MaxListed is the maximum length of each list in a report.
const MaxListed = 1000

// History contains data that the report needs and the machine does not. A process that resumes a run rebuilds the
// History from the events in the ledger, without the killed processes and the remaining processes, which are not in the
// ledger. A nil *History records nothing.
type History struct {
	doc      Report       // the part of the report that is known already
	commands map[int]span // by id of the command; missing: it was not started and has not ended
	killed   []procfs.Process
}

// Signalled describes a signal that graceful received or sent.
type Signalled struct {
	Time    time.Time `json:"time"`
	Signal  string    `json:"signal"` // without SIG: TERM
	Number  int       `json:"number"`
	State   string    `json:"state"`             // state of the run before a received signal, or while one is sent
	To      string    `json:"to,omitempty"`      // sent: group, target, survivors, tree or command; "": received
	Command int       `json:"command,omitempty"` // if To is command: its id
}

// span is the time from the start to the end of a command. A zero time means that the command was not started, or has
// not ended.
type span struct {
	from, to time.Time
	pid      int // pid of the command; 0: it was not started
}

// NewHistory returns the history of a run that began at a time.
func NewHistory(subject Subject, began time.Time) *History {
	return &History{commands: map[int]span{}, doc: Report{
		Form: version, Subject: subject, PID: subject.PID, Began: began,
		Received: []Signalled{}, Sent: []Signalled{}, Left: []Process{},
	}}
}

// RecordEvent records an event that happened at a time. before and after are the run before and after the event.
func (h *History) RecordEvent(before, after machine.Run, e machine.Event, at time.Time) {
	if h == nil {
		return
	}
	switch e := e.(type) {
	case machine.TargetStarted:
		h.doc.Target.Started = pointer(at)
	case machine.TargetFailed:
		h.doc.Target.Started, h.doc.Target.Error = nil, pointer(string(e.Err))
	case machine.TargetEnded:
		h.doc.Target.Ended, h.doc.Target.Usage = pointer(at), e.Usage
	case machine.Signalled:
		h.add(&h.doc.Received, Signalled{Time: at, State: before.State.String()}, e.Signal)
	case machine.CommandStarted:
		h.commands[e.ID] = span{from: at, pid: e.PID}
	case machine.TreeEmptied:
		if before.State == machine.Sweeping && len(h.doc.Left) == 0 {
			h.doc.Emptied = pointer(at)
		}
	case machine.PeerEnded, machine.Recovered:
		h.RecordTakeover()
	case machine.Retried, machine.RetriedUnstarted:
		for c := range after.Cleanup.Entries.All() {
			if old, _ := before.Cleanup.Get(c.ID); c.Progress < old.Progress { // the command will run again
				delete(h.commands, c.ID)
			}
		}
	}
	stopBegins := before.State < machine.Stopping && after.State == machine.Stopping
	sweepStops := before.State == machine.Sweeping && before.Stop.Step == 0 && after.Stop.Step > 0
	if stopBegins || sweepStops {
		h.doc.Stop = &Stop{Began: at}
	}
	for _, id := range before.Cleanup.Active {
		if c, _ := after.Cleanup.Get(id); c.Progress == cleanup.Ended {
			s := h.commands[id]
			s.to = at
			h.commands[id] = s
		}
	}
}

// RecordTakeover records that another process has resumed the run.
func (h *History) RecordTakeover() {
	if h != nil {
		h.doc.TakenOver = true
	}
}

// RecordAction records an action if the action sends a signal, except SIGKILL to what commands have left. r is the run
// at the time when the action is performed.
func (h *History) RecordAction(r machine.Run, a machine.Action, at time.Time) {
	if h == nil {
		return
	}
	s := Signalled{Time: at, State: r.State.String()}
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
		if r.Cleanup.Clearing {
			return // KillTree kills what commands have left, which usually is no process
		}
		sig, s.To = machine.SigKILL, "tree"
	case machine.TerminateCommand:
		sig, s.To, s.Command = machine.SigTERM, "command", a.ID
	case machine.KillCommand:
		if c, _ := r.Cleanup.Get(a.ID); c.Progress == cleanup.Ended {
			return // KillCommand kills what the command has left, which usually is no process
		}
		sig, s.To, s.Command = machine.SigKILL, "command", a.ID
	default:
		return
	}
	h.add(&h.doc.Sent, s, sig)
}

// add appends the signal sig to a list, or counts it as omitted if the list is full.
func (h *History) add(list *[]Signalled, s Signalled, sig int) {
	s.Signal, s.Number = signalName(sig), sig
	if len(*list) == MaxListed {
		h.doc.Omitted++
		return
	}
	*list = append(*list, s)
}

// ListsKilled reports whether the report lists the processes that are killed now: before cleanup, as long as the list
// has room.
func (h *History) ListsKilled(r machine.Run) bool {
	return h != nil && r.State <= machine.Sweeping && len(h.killed) < MaxListed
}

// RecordKilled records a process that graceful has killed with SIGKILL, if ListsKilled allows that. It records each
// process once, and ignores the target, because the target's end has its own field.
func (h *History) RecordKilled(p procfs.Process, r machine.Run) {
	isListed := func(q procfs.Process) bool { return p.Is(q.PID, q.Start) }
	if h.ListsKilled(r) && p.PID != r.Target.PID && !slices.ContainsFunc(h.killed, isListed) {
		h.killed = append(h.killed, p)
	}
}

// RecordLeft records the processes that SIGKILL has not ended. After cleanup has begun it records nothing.
func (h *History) RecordLeft(left []procfs.Process, r machine.Run) {
	if h == nil || r.State > machine.Sweeping {
		return
	}
	all := append(h.doc.Left, processesOf(left)...)
	slices.SortFunc(all, func(a, b Process) int { return a.PID - b.PID })
	h.doc.Left = all[:min(len(all), MaxListed)]
}

// HasRoomForSignal reports whether the report can contain another received signal.
func (h *History) HasRoomForSignal() bool { return h != nil && len(h.doc.Received) < MaxListed }
