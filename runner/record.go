package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/forward"
	"graceful/runner/tree"
)

// What is written down of a run: how it was begun, and then each event that changed it, before anything is done about
// that. Who reads it later leads the same events through the same machine, and stands where the run stands.

// version is that of the records. It changes when a program that does not know of the change would go wrong.
const version = 2

// appender takes records; it is a ledger.Ledger.
type appender interface {
	Append(record any) error
	Reserve(space int64) error
}

// record is a line of the ledger. Of the fields after Event, each event has those that it needs.
type record struct {
	Version int           `json:"graceful,omitempty"` // in the first line
	Time    time.Time     `json:"time"`               // for people
	Clock   time.Duration `json:"clock"`              // since the machine was started: for deadlines
	Begin   *beginning    `json:"begin,omitempty"`    // the first line; all others have an event
	Event   string        `json:"event,omitempty"`
	ID      int           `json:"id,omitempty"` // of a cleanup command
	PID     int           `json:"pid,omitempty"`
	Start   uint64        `json:"start,omitempty"` // see tree.Identity
	Code    int           `json:"code,omitempty"`
	Signal  int           `json:"signal,omitempty"`
	Unseen  bool          `json:"unseen,omitempty"`
	After   time.Duration `json:"after,omitempty"` // since the run began
	Usage   *Usage        `json:"usage,omitempty"`
	Timer   timerName     `json:"timer,omitempty"`
	Error   ledger.Text   `json:"error,omitempty"`

	Command *registration `json:"command,omitempty"` // one that was registered
}

// beginning is what a run was asked for, and where.
type beginning struct {
	ID       string           `json:"id"`
	Name     ledger.Text      `json:"name"`
	Command  []ledger.Text    `json:"command"`
	Env      []ledger.Text    `json:"env"`
	Commands []beginCommand   `json:"commands"`
	Report   ledger.Text      `json:"report,omitempty"` // see report.File.Path
	Cgroup   ledger.Text      `json:"cgroup,omitempty"`
	Socket   ledger.Text      `json:"socket,omitempty"`
	Config   Config           `json:"config"`
	Ignored  []syscall.Signal `json:"ignored"`
	Blocked  []syscall.Signal `json:"blocked"`
	Dir      ledger.Text      `json:"dir"`   // working directory
	Front    int              `json:"front"` // pid of the process that the user started
	Boot     string           `json:"boot"`  // see tree.Boot
}

type beginCommand struct {
	When  cleanup.When  `json:"when"`
	Text  ledger.Text   `json:"text"`
	Args  []ledger.Text `json:"args"`
	Limit time.Duration `json:"limit"`
}

// firstRecord writes down how a run begins.
func firstRecord(r Run, in inherited) record {
	dir, _ := os.Getwd() // one that has been removed is missed by nobody but recover
	b := beginning{
		ID: r.ID, Name: ledger.Text(r.Config.Name), Command: texts(r.Config.Command), Env: texts(r.Config.Env),
		Report: ledger.Text(r.Config.Report), Cgroup: ledger.Text(r.Cgroup), Socket: ledger.Text(r.Socket), Config: r.Config,
		Ignored: in.ignored, Blocked: in.blocked, Front: os.Getpid(), Boot: tree.Boot(), Dir: ledger.Text(dir),
	}
	for _, c := range r.Cleanup.Entries {
		b.Commands = append(b.Commands, beginCommand{c.When, ledger.Text(c.Command.Text), texts(c.Command.Args), c.Command.Limit})
	}
	return record{Version: version, Time: time.Now(), Clock: sinceBoot(), Begin: &b}
}

func (b beginning) run() Run {
	config := b.Config
	config.Command, config.Env = stringsOf(b.Command), stringsOf(b.Env)
	config.Name, config.Report = string(b.Name), string(b.Report)
	for _, c := range b.Commands {
		command := cleanup.Command{Text: string(c.Text), Args: stringsOf(c.Args), Limit: c.Limit}
		if c.When == cleanup.AtStop {
			config.OnStop = append(config.OnStop, command)
		} else {
			config.OnExit = append(config.OnExit, command)
		}
	}
	r := newRun(b.ID, config)
	r.Cgroup, r.Socket = string(b.Cgroup), string(b.Socket)
	return r
}

// registration is a command that was registered while the run went on.
type registration struct {
	beginCommand
	Name  ledger.Text     `json:"name,omitempty"`
	Dir   ledger.Text     `json:"dir,omitempty"`
	Env   []ledger.Text   `json:"env,omitzero"` // nil: the run's
	EnvOf int             `json:"env_of,omitempty"`
	Exits cleanup.Process `json:"exits,omitzero"`
	Key   ledger.Text     `json:"key,omitempty"`
}

func registrationOf(c cleanup.Entry) *registration {
	reg := registration{
		beginCommand: beginCommand{c.When, ledger.Text(c.Command.Text), texts(c.Command.Args), c.Command.Limit},
		Name:         ledger.Text(c.Name), Dir: ledger.Text(c.Dir), EnvOf: c.EnvOf, Exits: c.Exits, Key: ledger.Text(c.Key),
	}
	if c.EnvOf == 0 && c.Env != nil {
		reg.Env = append([]ledger.Text{}, texts(c.Env)...)
	}
	return &reg
}

// entry is the command again; its environment may be that of one that was registered before.
func (reg registration) entry(before cleanup.Stack) cleanup.Entry {
	c := cleanup.Entry{
		When:    reg.When,
		Command: cleanup.Command{Text: string(reg.Text), Args: stringsOf(reg.Args), Limit: reg.Limit},
		Registration: cleanup.Registration{
			Name: string(reg.Name), Dir: string(reg.Dir), EnvOf: reg.EnvOf, Exits: reg.Exits, Key: string(reg.Key),
		},
	}
	if reg.Env != nil {
		c.Env = append([]string{}, stringsOf(reg.Env)...)
	}
	if of, ok := before.Get(reg.EnvOf); ok {
		c.Env = of.Env
	}
	return c
}

func texts(from []string) (to []ledger.Text) {
	for _, s := range from {
		to = append(to, ledger.Text(s))
	}
	return to
}

func stringsOf(from []ledger.Text) (to []string) {
	for _, s := range from {
		to = append(to, string(s))
	}
	return to
}

// recordOf writes an event down. Not all need that: what is forwarded, and what is tried again at once, changes
// nothing that somebody who goes on with the run would do.
func recordOf(e event, moved bool) (r record, keep bool) {
	switch e := e.(type) {
	case targetStarted:
		r = record{Event: "target started", PID: e.pid, Start: e.start}
	case targetFailed:
		r = record{Event: "target failed", Code: e.status, Error: errorText(e.err)}
	case targetEnded:
		r = record{Event: "target ended", Code: e.ending.Code, Signal: e.ending.Signal, After: e.after, Usage: e.usage}
	case signalled:
		return record{Event: "stop signal", Signal: e.signal}, moved && e.meaning == forward.Stop
	case timeUp:
		r = record{Event: "time up", Timer: e.name}
	case treeEmptied:
		r = record{Event: "tree emptied"}
	case relayed:
		r = record{Event: "output relayed"}
	case commandStarted:
		r = record{Event: "command started", ID: e.id, PID: e.pid, Start: e.start}
	case commandFailed:
		return record{Event: "command failed", ID: e.id, Error: errorText(e.err)}, !e.transient
	case commandEnded:
		r = record{Event: "command ended", ID: e.id, Code: e.ending.Code, Signal: e.ending.Signal, Unseen: e.unseen}
	case commandTimer:
		return record{Event: "command timer", ID: e.id, Timer: e.name}, e.name != retryTimer
	case commandLost:
		r = record{Event: "command lost", ID: e.id}
	case retried:
		r = record{Event: "retried"}
	case registered:
		return record{Event: "registered", After: e.left, Command: registrationOf(e.entry)}, moved
	case withdrawn:
		return record{Event: "withdrawn", ID: e.id, After: e.left}, moved
	case exited:
		r = record{Event: "exited", ID: e.id}
	case orphaned:
		r = record{Event: "orphaned"}
	case recovered:
		r = record{Event: "recovered", After: e.after}
	default:
		panic(fmt.Sprintf("runner: nobody writes %T down", e))
	}
	return r, true
}

func (r record) event(before Run) (event, error) {
	ending := Ending{r.Code, r.Signal}
	switch r.Event {
	case "target started":
		return targetStarted{r.PID, r.Start}, nil
	case "target failed":
		return targetFailed{r.Code, string(r.Error)}, nil
	case "target ended":
		return targetEnded{ending, r.After, r.Usage}, nil
	case "signal": // for the report
		return signalled{r.Signal, forward.MeaningOf(syscall.Signal(r.Signal))}, nil
	case "stop signal":
		return signalled{r.Signal, forward.Stop}, nil
	case "time up":
		return timeUp{r.Timer}, nil
	case "tree emptied":
		return treeEmptied{}, nil
	case "output relayed":
		return relayed{}, nil
	case "command started":
		return commandStarted{r.ID, r.PID, r.Start}, nil
	case "command failed":
		return commandFailed{id: r.ID, err: string(r.Error)}, nil
	case "command ended":
		return commandEnded{r.ID, ending, r.Unseen}, nil
	case "command timer":
		return commandTimer{r.ID, r.Timer}, nil
	case "command lost":
		return commandLost{r.ID}, nil
	case "retried":
		return retried{}, nil
	case "registered":
		if r.Command == nil || len(r.Command.Args) == 0 {
			return nil, errors.New("a command in it is empty")
		}
		return registered{entry: r.Command.entry(before.Cleanup), left: r.After, replay: true}, nil
	case "withdrawn":
		return withdrawn{r.ID, r.After}, nil
	case "exited":
		return exited{r.ID}, nil
	case "orphaned":
		return orphaned{}, nil
	case "recovered":
		return recovered{r.After}, nil
	}
	return nil, fmt.Errorf("unknown event %q", r.Event)
}

// record writes an event down before anything is done about it. A ledger that cannot be written is said once; the run
// goes on: it has begun, and its promise holds as long as nobody kills us.
func (l *loop) record(e event, moved bool, now time.Time) error {
	if l.ledger == nil {
		return nil
	}
	r, keep := recordOf(e, moved)
	if s, ok := e.(signalled); ok && !keep && l.history != nil && len(l.history.received) < historyLimit {
		r, keep = record{Event: "signal", Signal: s.signal}, true
	}
	if !keep {
		return nil
	}
	r.Time, r.Clock = now, sinceBoot()
	err := l.ledger.Append(r)
	if err != nil && !l.unwritten {
		l.unwritten = true
		l.log.Warn("writing the ledger", "err", err, "hint", "should graceful be killed now, a cleanup command may run twice")
	}
	return err
}

// remembered is a run as its ledger tells it.
type remembered struct {
	run     Run
	began   time.Time
	start   time.Duration // the same since the machine was started
	last    time.Duration // from then to the last record
	inherit inherited
	dir     string
	front   int
	history *history
	boot    string
	claimed map[int]time.Duration // when each claim was made, since the machine was started
}

// errEmpty: the ledger's writer was killed before it had begun the run.
var errEmpty = errors.New("the ledger is empty")

// remember reads a ledger's records. Deadlines of the time before the machine was last started are due from now on.
func remember(records []json.RawMessage) (remembered, error) {
	var m remembered
	if len(records) == 0 {
		return m, errEmpty
	}
	now, clock, boot := time.Now(), sinceBoot(), tree.Boot()
	var first time.Time
	for i, raw := range records {
		var r record
		if err := json.Unmarshal(raw, &r); err != nil {
			return m, fmt.Errorf("line %d: %w", i+1, err)
		}
		at := now
		if i == 0 {
			if r.Version != version || r.Begin == nil {
				return m, fmt.Errorf("its version is %d, and this program knows %d", r.Version, version)
			}
			m = remembered{
				run: r.Begin.run(), front: r.Begin.Front, boot: r.Begin.Boot, dir: string(r.Begin.Dir),
				claimed: map[int]time.Duration{},
				inherit: inherited{r.Begin.Ignored, r.Begin.Blocked},
			}
			m.history = newHistory(m.run, m.front, m.dir, r.Time)
			if err := m.run.Config.check(); err != nil {
				return m, fmt.Errorf("line 1: %w", err)
			}
		}
		if m.boot == boot {
			at = now.Add(r.Clock - clock)
		}
		if i == 0 {
			m.began, m.start, first = at, r.Clock, r.Time
			continue
		}
		e, err := r.event(m.run)
		if err != nil {
			return m, fmt.Errorf("line %d: %w", i+1, err)
		}
		before := m.run
		var todo []action
		m.run, todo = advance(m.run, e, at)
		m.history.happened(before, m.run, e, r.Time)
		for _, a := range todo {
			m.history.did(m.run, a, r.Time)
		}
		if m.last = r.Time.Sub(first); m.boot == boot {
			m.last = r.Clock - m.start
		}
		for _, id := range m.run.Cleanup.Active {
			if was, _ := before.Cleanup.Get(id); was.Progress != cleanup.Claimed {
				m.claimed[id] = r.Clock
			}
		}
	}
	return m, nil
}
