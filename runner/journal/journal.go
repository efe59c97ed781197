// Package journal defines the records of a run. It converts the beginning of the run and the events that changed it
// into records, and rebuilds the run from the records. It decides nothing. Package ledger stores the records.
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

// Version is the version of the records. It must change when a program that expects the previous version would misread
// new records. Replay also reads records of version oldest.
const (
	Version = 3
	oldest  = 2
)

// Ledger stores records. ledger.Ledger implements this interface.
type Ledger interface {
	Append(record any) error
	Reserve(space int64) error // reserves room for later records, in bytes
}

// Clock contains the readings of two clocks at the same moment.
type Clock struct {
	Time      time.Time     // wall clock, for people
	SinceBoot time.Duration // since boot, for deadlines
}

// Begin is the content of the first record: the options of a run, and the place where it began.
type Begin struct {
	ID       string           `json:"id"`
	Name     cleanup.Text     `json:"name"`
	Command  []cleanup.Text   `json:"command"`
	Env      []cleanup.Text   `json:"env"`
	Commands []cleanup.Entry  `json:"commands"`
	Report   cleanup.Text     `json:"report,omitempty"`   // path of the report; empty: no report
	Cgroup   cleanup.Text     `json:"cgroup,omitempty"`   // directory of the run's cgroup; empty: none
	Socket   cleanup.Text     `json:"socket,omitempty"`   // address of the run's socket; empty: none
	Config   json.RawMessage  `json:"config"`             // runner.Config, which contains the fields of machine.Policy
	Ignored  []syscall.Signal `json:"ignored"`            // signals that were ignored when graceful started
	Blocked  []syscall.Signal `json:"blocked"`            // signals that were blocked when graceful started
	Dir      cleanup.Text     `json:"dir"`                // working directory
	Terminal json.RawMessage  `json:"terminal,omitempty"` // result of Save of terminal.Terminal or terminal.PTY
	Front    int              `json:"front"`              // pid of the process that the user started
	Followed bool             `json:"followed,omitempty"` // PID 1 ends when Front ends; see procfs.IsFollowedByInit
	Boot     string           `json:"boot"`               // boot and PID namespace, see procfs.Boot
	Machine  *string          `json:"machine,omitempty"`  // id of the machine, "" if unknown; nil: an earlier version
}

// header contains the fields of a record that do not belong to its event.
type header struct {
	Version int           `json:"graceful,omitempty"` // in the first record only
	Time    time.Time     `json:"time"`
	Clock   time.Duration `json:"clock"`           // time since boot
	Begin   *Begin        `json:"begin,omitempty"` // in the first record only
	Event   string        `json:"event,omitempty"` // tag of the event, in all other records
}

// Start records the beginning of a run, and reserves room for all events that can follow. signals is the number of
// signals that are recorded only for the report, at most MaxSignals. If there is no room, Start writes nothing and
// returns an error. The error wraps ErrTooLarge if no ledger has room for the run.
func Start(l Ledger, b Begin, r machine.Run, signals int, now Clock) error {
	text, err := cleanup.EncodeJSON(header{Version: Version, Time: now.Time, Clock: now.SinceBoot, Begin: &b})
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

// The tags of signals. The record of a signal does not contain its meaning, so a replay takes the meaning from the tag,
// or from the policy of the run.
const (
	tagStopSignal = "stop signal" // a stop signal that has changed the run
	tagSignal     = "signal"      // any other signal, recorded only for the report
)

// tags maps each type of event to its tag. A reader finds the type of an event by the tag.
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

// eventTypes returns the type of event for each tag.
var eventTypes = sync.OnceValue(func() map[string]reflect.Type {
	types := map[string]reflect.Type{tagSignal: reflect.TypeFor[machine.Signalled]()}
	for t, tag := range tags {
		types[tag] = t
	}
	return types
})

// Record returns the record of an event, or nil if a process that resumes the run does not need the event. changed
// means that the event has changed the run. wanted means that the report shows the event, if it is a signal. Only then
// is a signal recorded that is not a stop signal or has not changed the run. Record returns an error for an event
// without a tag.
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
	record, err := cleanup.EncodeJSON(header{Time: now.Time, Clock: now.SinceBoot, Event: tag})
	fields, err2 := cleanup.EncodeJSON(e)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if len(fields) > len("{}") { // one object contains both sets of fields
		record = append(append(record[:len(record)-1], ','), fields[1:]...)
	}
	return record, nil
}

// event decodes the event of a record. before is the run before the event. If a command has the same environment as an
// earlier one, the record omits the environment, and event takes it from before.
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
