package runner

import (
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/runner/tree"
)

// history is what the report tells and the machine has no need of. It follows from the same events, so that whoever goes
// on with a run knows it from the ledger; but for the killed, whom nobody writes down. It is kept for a report alone.
type history struct {
	received, sent []Signalled
	omitted        int // signals that are too many to be kept
	began          time.Time
	started        time.Time // the target was
	stopped        time.Time // the stop began
	ended          time.Time // the target had
	emptied        time.Time // nobody of the tree was left
	usage          *Usage
	commands       map[int]span
	killed         []tree.Process
	takenOver      bool
	front          int // pid of the process that the user started
}

// newHistory begins one for a run, or none when no report is wanted.
func newHistory(r Run, front int, began time.Time) *history {
	if r.Config.Report == "" {
		return nil
	}
	return &history{began: began, front: front, commands: map[int]span{}}
}

// historyLimit bounds the lists in it.
const historyLimit = 1000

// Signalled is a signal that came, or that was sent.
type Signalled struct {
	Time    time.Time `json:"time"`
	Signal  string    `json:"signal"` // TERM
	State   string    `json:"state"`  // of the run
	To      string    `json:"to,omitempty"`
	Command int       `json:"command,omitempty"`
}

// Usage is what a process and those of its children that it has waited for have used (getrusage(2)).
type Usage struct {
	UserMS              float64 `json:"user_ms"`
	SystemMS            float64 `json:"system_ms"`
	MaxRSSKB            int64   `json:"max_rss_kb"`
	MinorFaults         int64   `json:"minor_faults"`
	MajorFaults         int64   `json:"major_faults"`
	BlocksRead          int64   `json:"blocks_read"`
	BlocksWritten       int64   `json:"blocks_written"`
	VoluntarySwitches   int64   `json:"voluntary_switches"`
	InvoluntarySwitches int64   `json:"involuntary_switches"`
}

type span struct{ from, to time.Time }

// happened takes an event and what it has made of the run.
func (h *history) happened(was, is Run, e event, at time.Time) {
	if h == nil {
		return
	}
	switch e := e.(type) {
	case targetStarted:
		h.started = at
	case targetEnded:
		h.ended, h.usage = at, e.usage
	case signalled:
		h.add(&h.received, Signalled{Time: at, Signal: signalName(e.signal), State: was.State.String()})
	case commandStarted:
		h.commands[e.id] = span{from: at}
	case orphaned, recovered:
		h.takenOver = true
	}
	if was.State < Stopping && is.State == Stopping || was.State == Sweeping && was.Step == 0 && is.Step > 0 {
		h.stopped = at
	}
	if was.State < Cleaning && is.State >= Cleaning {
		h.emptied = at
	}
	for i, c := range is.Cleanup.Entries {
		if i < len(was.Cleanup.Entries) && c.Progress == cleanup.Ended && was.Cleanup.Entries[i].Progress != cleanup.Ended {
			h.commands[c.ID] = span{h.commands[c.ID].from, at}
		}
	}
}

// did takes what was done about it.
func (h *history) did(is Run, a action, at time.Time) {
	if h == nil {
		return
	}
	s := Signalled{Time: at, State: is.State.String()}
	sig := 0
	switch a := a.(type) {
	case forwardSignal:
		sig, s.To = a.signal, "group"
		if a.alone {
			s.To = "target"
		}
	case signalSurvivors:
		sig, s.To = a.signal, "survivors"
	case killTree:
		if is.Clearing {
			return // what commands have left, mostly nobody
		}
		sig, s.To = sigKILL, "tree"
	case terminateCommand:
		sig, s.To, s.Command = sigTERM, "command", a.id
	case killCommand:
		if c, _ := is.Cleanup.Get(a.id); c.Progress == cleanup.Ended {
			return // what it has left, mostly nobody
		}
		sig, s.To, s.Command = sigKILL, "command", a.id
	default:
		return
	}
	s.Signal = signalName(sig)
	h.add(&h.sent, s)
}

func (h *history) add(list *[]Signalled, s Signalled) {
	if len(*list) == historyLimit {
		h.omitted++
		return
	}
	*list = append(*list, s)
}

// kill takes one that SIGKILL was sent to.
func (h *history) kill(p tree.Process, r Run) {
	if h == nil || !r.Ended || r.State > Sweeping || len(h.killed) == historyLimit {
		return
	}
	if !slices.ContainsFunc(h.killed, func(q tree.Process) bool { return q.Identity == p.Identity }) {
		h.killed = append(h.killed, p)
	}
}
