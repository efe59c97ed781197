// Package journal says what is recorded of a run, and replays it: how the run began, and then each event that changed it,
// before graceful acts on it. It is a write-ahead log of the machine's events. It decides nothing, and keeps no file.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/machine"
)

// Version is that of the records. It changes when a program that does not know of the change would go wrong.
const Version = 2

// Ledger takes records, one at a time.
type Ledger interface {
	Append(record any) error
	Reserve(space int64) error
}

// Clock is a moment: by the calendar, for people, and since boot, for deadlines.
type Clock struct {
	Time  time.Time
	Boots time.Duration
}

// Begin is how a run began: what it was asked for, and where. It is the first record.
type Begin struct {
	ID       string           `json:"id"`
	Name     cleanup.Text     `json:"name"`
	Command  []cleanup.Text   `json:"command"`
	Env      []cleanup.Text   `json:"env"`
	Commands []cleanup.Entry  `json:"commands"`
	Report   cleanup.Text     `json:"report,omitempty"` // see report.File.Path
	Cgroup   cleanup.Text     `json:"cgroup,omitempty"`
	Socket   cleanup.Text     `json:"socket,omitempty"`
	Config   json.RawMessage  `json:"config"` // of package runner; the machine's policy is part of it
	Ignored  []syscall.Signal `json:"ignored"`
	Blocked  []syscall.Signal `json:"blocked"`
	Dir      cleanup.Text     `json:"dir"`   // working directory
	Front    int              `json:"front"` // pid of the process that the user started
	Boot     string           `json:"boot"`  // see procfs.Boot
}

// run is the run at its beginning.
func (b Begin) run() (machine.Run, error) {
	var policy machine.Policy
	if err := json.Unmarshal(b.Config, &policy); err != nil {
		return machine.Run{}, err
	}
	var onExit, onStop []cleanup.Command
	for _, c := range b.Commands {
		if c.When == cleanup.AtStop {
			onStop = append(onStop, c.Command)
		} else {
			onExit = append(onExit, c.Command)
		}
	}
	return machine.New(policy, onExit, onStop), nil
}

// header is what every record has besides its event.
type header struct {
	Version int           `json:"graceful,omitempty"` // in the first record
	Time    time.Time     `json:"time"`
	Clock   time.Duration `json:"clock"`           // since boot
	Begin   *Begin        `json:"begin,omitempty"` // in the first record
	Event   string        `json:"event,omitempty"` // in all others
}

// Start records how a run began. It fails before anything is written where the ledger has no room for the run and for all
// that can follow; signals is the number of signals that the report may want to have recorded.
func Start(l Ledger, b Begin, r machine.Run, signals int, now Clock) error {
	text, err := cleanup.EncodeJSON(header{Version: Version, Time: now.Time, Clock: now.Boots, Begin: &b})
	if err != nil {
		return err
	}
	if n := len(text) + overhead + perStep*len(r.Policy.Steps()); n > maxFirst {
		return fmt.Errorf("%w: arguments and environment take %d bytes in %v, and may take %d", ErrTooLarge, n, l, maxFirst)
	}
	if err := l.Reserve(int64(len(text)) + Room(r, signals)); err != nil {
		return err
	}
	return l.Append(json.RawMessage(text))
}

// Tags of the events in records. The tag of a signal tells whether it began a stop.
const (
	tagStopSignal = "stop signal"
	tagSignal     = "signal" // for the report alone
)

var tags = map[reflect.Type]string{
	reflect.TypeFor[machine.TargetStarted]():  "target started",
	reflect.TypeFor[machine.TargetFailed]():   "target failed",
	reflect.TypeFor[machine.TargetEnded]():    "target ended",
	reflect.TypeFor[machine.Signalled]():      tagStopSignal,
	reflect.TypeFor[machine.TimeUp]():         "time up",
	reflect.TypeFor[machine.TreeEmptied]():    "tree emptied",
	reflect.TypeFor[machine.Relayed]():        "output relayed",
	reflect.TypeFor[machine.CommandStarted](): "command started",
	reflect.TypeFor[machine.CommandFailed]():  "command failed",
	reflect.TypeFor[machine.CommandEnded]():   "command ended",
	reflect.TypeFor[machine.CommandTimer]():   "command timer",
	reflect.TypeFor[machine.CommandLost]():    "command lost",
	reflect.TypeFor[machine.Retried]():        "retried",
	reflect.TypeFor[machine.Registered]():     "registered",
	reflect.TypeFor[machine.Withdrawn]():      "withdrawn",
	reflect.TypeFor[machine.Exited]():         "exited",
	reflect.TypeFor[machine.Orphaned]():       "orphaned",
	reflect.TypeFor[machine.Recovered]():      "recovered",
}

// types is tags the other way round.
var types = sync.OnceValue(func() map[string]reflect.Type {
	types := map[string]reflect.Type{tagSignal: reflect.TypeFor[machine.Signalled]()}
	for t, tag := range tags {
		types[tag] = t
	}
	return types
})

// Record returns the record of an event, or nil where none is needed: a signal that is only forwarded, and what is tried again
// at once, change nothing for a process that resumes the run. changed tells whether the event has changed the run; wanted,
// whether the report wants to know of a signal that has not.
func Record(e machine.Event, changed, wanted bool, now Clock) (json.RawMessage, error) {
	tag, keep := tags[reflect.TypeOf(e)], true
	switch event := e.(type) {
	case machine.Signalled:
		if keep = changed && event.Meaning == forward.Stop; !keep && wanted {
			tag, keep = tagSignal, true
		}
	case machine.CommandFailed:
		keep, event.Err = !event.Transient, shortened(event.Err)
		e = event
	case machine.TargetFailed:
		event.Err = shortened(event.Err)
		e = event
	case machine.CommandTimer:
		keep = event.Name != machine.RetryTimer
	case machine.Registered, machine.Withdrawn:
		keep = changed
	}
	if tag == "" {
		return nil, fmt.Errorf("an event of type %T has no record", e)
	}
	if !keep {
		return nil, nil
	}
	head, err := cleanup.EncodeJSON(header{Time: now.Time, Clock: now.Boots, Event: tag})
	body, err2 := cleanup.EncodeJSON(e)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if len(body) > len("{}") {
		head = append(append(head[:len(head)-1], ','), body[1:]...)
	}
	return head, nil
}

// event reads the event of a record; before is the run before it.
func (h header) event(record json.RawMessage, before machine.Run) (machine.Event, error) {
	t, ok := types()[h.Event]
	if !ok {
		return nil, fmt.Errorf("unknown event %q", h.Event)
	}
	p := reflect.New(t)
	if err := json.Unmarshal(record, p.Interface()); err != nil {
		return nil, err
	}
	switch event := p.Elem().Interface().(type) {
	case machine.Signalled:
		event.Meaning = forward.Stop
		if h.Event == tagSignal {
			event.Meaning = forward.MeaningOf(syscall.Signal(event.Signal))
		}
		return event, nil
	case machine.Registered:
		if len(event.Entry.Command.Args) == 0 {
			return nil, errors.New("a command in it is empty")
		}
		if of, ok := before.Cleanup.Get(event.Entry.EnvOf); ok {
			event.Entry.Env = of.Env
		}
		event.Replay = true
		return event, nil
	default:
		return event, nil
	}
}
