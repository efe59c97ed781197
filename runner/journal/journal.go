// Package journal is the write-ahead log of a run. It turns the run's beginning and the events that changed it into
// records, and rebuilds the run from them. It decides nothing, and keeps no file.
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
	"graceful/cleanup/ledger"
	"graceful/forward"
	"graceful/runner/machine"
)

// Version is the version of the records. It changes when a program that knows only the version before would misread
// them. Ledgers of version 2 are read, too.
const (
	Version = 3
	oldest  = 2
)

// Ledger stores records. A ledger.Ledger is one.
type Ledger interface {
	Append(record any) error
	Reserve(space int64) error // in bytes
}

// Clock is one moment on two clocks.
type Clock struct {
	Time  time.Time     // wall clock, for people
	Boots time.Duration // since boot, for deadlines
}

// Begin is the content of the first record: the options of a run, and where it began.
type Begin struct {
	ID       string           `json:"id"`
	Name     cleanup.Text     `json:"name"`
	Command  []cleanup.Text   `json:"command"`
	Env      []cleanup.Text   `json:"env"`
	Commands []cleanup.Entry  `json:"commands"`
	Report   cleanup.Text     `json:"report,omitempty"` // path of the report, if wanted
	Cgroup   cleanup.Text     `json:"cgroup,omitempty"`
	Socket   cleanup.Text     `json:"socket,omitempty"`
	Config   json.RawMessage  `json:"config"`             // runner.Config, which contains the fields of machine.Policy
	Ignored  []syscall.Signal `json:"ignored"`            // when graceful started
	Blocked  []syscall.Signal `json:"blocked"`            // when graceful started
	Dir      cleanup.Text     `json:"dir"`                // working directory
	Terminal json.RawMessage  `json:"terminal,omitempty"` // terminal.Saved
	Front    int              `json:"front"`              // pid of the process that the user started
	Followed bool             `json:"followed,omitempty"` // PID 1 ends with Front, see procfs.IsFollowedByInit
	Boot     string           `json:"boot"`               // boot and PID namespace, see procfs.Boot
	Machine  *string          `json:"machine,omitempty"`  // its id, "" if it has none; nil: an earlier version
}

// header holds the fields of a record, apart from those of its event.
type header struct {
	Version int           `json:"graceful,omitempty"` // in the first record alone
	Time    time.Time     `json:"time"`
	Clock   time.Duration `json:"clock"`           // since boot
	Begin   *Begin        `json:"begin,omitempty"` // in the first record alone
	Event   string        `json:"event,omitempty"` // its tag, in all other records
}

// Start records the beginning of a run, and reserves room for all events that can follow. signals is the number of
// signals that are recorded for the report alone, MaxSignals at most. If there is no room Start writes nothing, and
// fails; with ErrTooLarge if no ledger has room for the run.
func Start(l Ledger, b Begin, r machine.Run, signals int, now Clock) error {
	text, err := cleanup.EncodeJSON(header{Version: Version, Time: now.Time, Clock: now.Boots, Begin: &b})
	if err != nil {
		return err
	}
	if n := len(text) + ledger.Overhead + perStep*len(r.Policy.Steps()); n > maxFirst {
		return fmt.Errorf("%w: its command line and environment take %d bytes in %v, and may take %d",
			ErrTooLarge, n, l, maxFirst)
	}
	if err := l.Reserve(int64(len(text)) + Room(r, signals)); err != nil {
		return err
	}
	return l.Append(json.RawMessage(text))
}

// Tags of signals. The tag is the only record of a signal's meaning.
const (
	tagStopSignal = "stop signal"
	tagSignal     = "signal" // recorded for the report alone
)

// tags holds the tag of each event. A reader knows the event by it.
var tags = map[reflect.Type]string{
	reflect.TypeFor[machine.TargetStarted]():    "target started",
	reflect.TypeFor[machine.TargetFailed]():     "target failed",
	reflect.TypeFor[machine.TargetEnded]():      "target ended",
	reflect.TypeFor[machine.TargetGivenUp]():    "target given up",
	reflect.TypeFor[machine.Sent]():             "sent",
	reflect.TypeFor[machine.Signalled]():        tagStopSignal,
	reflect.TypeFor[machine.TimeUp]():           "time up",
	reflect.TypeFor[machine.TreeEmptied]():      "tree emptied",
	reflect.TypeFor[machine.Relayed]():          "output relayed",
	reflect.TypeFor[machine.CommandStarted]():   "command started",
	reflect.TypeFor[machine.CommandFailed]():    "command failed",
	reflect.TypeFor[machine.CommandEnded]():     "command ended",
	reflect.TypeFor[machine.CommandTimer]():     "command timer",
	reflect.TypeFor[machine.CommandLost]():      "command lost",
	reflect.TypeFor[machine.Retried]():          "retried",
	reflect.TypeFor[machine.RetriedUnstarted](): "unstarted retried",
	reflect.TypeFor[machine.Registered]():       "registered",
	reflect.TypeFor[machine.Withdrawn]():        "withdrawn",
	reflect.TypeFor[machine.ProcessExited]():    "exited",
	reflect.TypeFor[machine.PeerEnded]():        "orphaned",
	reflect.TypeFor[machine.Recovered]():        "recovered",
}

// eventTypes returns the event of each tag.
var eventTypes = sync.OnceValue(func() map[string]reflect.Type {
	types := map[string]reflect.Type{tagSignal: reflect.TypeFor[machine.Signalled]()}
	for t, tag := range tags {
		types[tag] = t
	}
	return types
})

// Record returns the record of an event, or nil if the event needs none: it changes nothing for a process that resumes
// the run. changed reports whether the event has changed the run. wanted reports whether the report wants a signal that
// is not recorded otherwise. An event without a tag is an error.
func Record(e machine.Event, changed, wanted bool, now Clock) (json.RawMessage, error) {
	tag, needed := tags[reflect.TypeOf(e)], true
	switch event := e.(type) {
	case machine.Signalled:
		if needed = changed && event.Meaning == forward.Stop; !needed && wanted {
			tag, needed = tagSignal, true
		}
	case machine.CommandFailed:
		size := maxErrorText
		if event.Unstarted {
			size = maxLackText
		}
		needed, event.Err = !event.Transient, shortened(event.Err, size)
		e = event
	case machine.TargetFailed:
		event.Err = shortened(event.Err, maxErrorText)
		e = event
	case machine.CommandTimer:
		needed = event.Name != machine.RetryTimer
	case machine.Registered, machine.Withdrawn, machine.Sent:
		needed = changed
	}
	if tag == "" {
		return nil, fmt.Errorf("an event of type %T has no record", e)
	}
	if !needed {
		return nil, nil
	}
	record, err := cleanup.EncodeJSON(header{Time: now.Time, Clock: now.Boots, Event: tag})
	fields, err2 := cleanup.EncodeJSON(e)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if len(fields) > len("{}") { // one object holds the fields of both
		record = append(append(record[:len(record)-1], ','), fields[1:]...)
	}
	return record, nil
}

// event decodes the event of a record. before is the run before the event: an environment that one of its commands has
// is not repeated in the record.
func (h header) event(record json.RawMessage, before machine.Run) (machine.Event, error) {
	t, ok := eventTypes()[h.Event]
	if !ok {
		return nil, fmt.Errorf("unknown event %q", h.Event)
	}
	p := reflect.New(t)
	if err := json.Unmarshal(record, p.Interface()); err != nil {
		return nil, err
	}
	e := p.Elem().Interface()
	switch event := e.(type) {
	case machine.Signalled:
		event.Meaning = forward.Stop
		if h.Event == tagSignal {
			event.Meaning = forward.MeaningIn(syscall.Signal(event.Signal), before.Policy.StopOn)
		}
		e = event
	case machine.Registered:
		if len(event.Entry.Command.Args) == 0 {
			return nil, errors.New("a command in it is empty")
		}
		if owner, ok := before.Cleanup.Get(event.Entry.EnvOf); ok {
			event.Entry.Env = owner.Env
		}
		event.Replay = true
		e = event
	}
	return e, nil
}
