package runner

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/process"
)

// registrar contains the loop's state for registrations.
type registrar struct {
	answer    machine.Answer // last answer to a registration or a withdrawal
	limit     time.Duration  // limit that the last request got, if the client requested more; else 0
	keyOwners map[string]int // by key, the id of the last entry with that key
	envOwners map[uint64]int // by hash of an environment, the id of the first entry with that environment
	seed      maphash.Seed
}

// request answers a request. It passes a registration or a withdrawal to the machine, and answers when the machine's
// decision is recorded.
func (l *loop) request(c registry.Call) {
	if c.Gone() { // the client cannot get the answer, so the request must have no effect
		l.log.Info("no process waits for the answer", "request", c.Do, "from", c.Peer.PID)
		c.Answer(registry.Response{})
		return
	}
	if err := l.sys.admit(c); err != nil {
		l.log.Info("request refused", "request", c.Do, "from", c.Peer.PID, "err", err)
		c.Answer(registry.Response{Error: err.Error(), Busy: process.OutOfResources(err)})
		return
	}
	l.registrar.limit = 0
	switch c.Do {
	case registry.List:
		c.Answer(registry.Response{Commands: l.list()})
		return
	case registry.Cancel:
		l.handle(machine.Withdrawn{ID: c.ID, Left: l.deadlineLeft()})
	default:
		l.register(c)
	}
	answer, limit := l.registrar.answer, l.registrar.limit
	switch log := logCommand(l.log, l.command(answer.ID)); {
	case answer.Refusal != "":
		l.log.Info("request refused", "request", c.Do, "from", c.Peer.PID, "err", answer.Refusal)
	case c.Do == registry.Cancel:
		log.Info("cleanup command withdrawn", "from", c.Peer.PID)
	default:
		if limit != 0 {
			log = log.With("limit", limit)
		}
		log.Info("cleanup command registered", "from", c.Peer.PID)
	}
	c.Answer(registry.Response{ID: answer.ID, TimeoutMS: limit.Milliseconds(), Error: answer.Refusal})
}

// register checks a registration, and passes it to the machine. It stores the answer in the registrar.
func (l *loop) register(c registry.Call) {
	e := c.Entry()
	asked, most := e.Command.Limit, cmp.Or(l.run.Config.DeferLimit, l.run.Config.OnExitLimit)
	e.Command.Limit = min(cmp.Or(asked, l.run.Config.OnExitLimit), most)
	if e.Command.Limit < asked {
		l.registrar.limit = most
	}
	if err := process.CheckSize(e.Command.Args, commandEnv(l.run, e)); err != nil {
		l.registrar.answer = machine.Answer{Refusal: err.Error()}
		return
	}
	if e.Command.NeedsShell() {
		if err := ProbeShell(); err != nil {
			refusal := fmt.Sprintf("%s: %v (without a shell give a command)", cleanup.Shell, err)
			l.registrar.answer = machine.Answer{Refusal: refusal}
			return
		}
	}
	if pid := e.Awaited.PID; pid != 0 {
		p, err := l.sys.member(pid, e.Awaited.Start, c.Peer.PID)
		if err != nil {
			l.registrar.answer = machine.Answer{Refusal: err.Error()}
			return
		}
		e.Awaited.Start = p.Start
	}
	key := l.shareEnv(&e)
	before := l.run.Cleanup.Entries.Len()
	l.handle(machine.Registered{Entry: e, Left: l.deadlineLeft(), SameKeyID: l.registrar.keyOwners[e.Key]})
	if l.run.Cleanup.Entries.Len() == before || l.registrar.answer.Refusal != "" {
		return // the command was refused, or registered before
	}
	l.registrar.keyOwners[e.Key] = l.registrar.answer.ID
	if e.Env != nil && e.EnvOf == 0 {
		l.registrar.envOwners[key] = l.registrar.answer.ID
	}
	l.awaitExit(l.command(l.registrar.answer.ID))
}

// shareEnv makes commands with equal environments share one copy, because a script may register many commands. It
// returns the hash of the environment of e, or 0 if e has none.
func (l *loop) shareEnv(e *cleanup.Entry) (key uint64) {
	sum := func(env []string) uint64 {
		var h maphash.Hash
		h.SetSeed(l.registrar.seed)
		for _, kv := range env {
			_, _ = h.WriteString(kv + "\x00")
		}
		return h.Sum64()
	}
	if l.registrar.envOwners == nil {
		l.registrar.keyOwners, l.registrar.envOwners = map[string]int{}, map[uint64]int{}
		l.registrar.seed = maphash.MakeSeed()
		for old := range l.run.Cleanup.Entries.All() { // entries from before a takeover
			l.registrar.keyOwners[old.Key] = old.ID
			if old.Env != nil && old.EnvOf == 0 {
				l.registrar.envOwners[sum(old.Env)] = old.ID
			}
		}
	}
	if e.Env == nil {
		return key
	}
	key = sum(e.Env)
	if id := l.registrar.envOwners[key]; id != 0 && slices.Equal(l.command(id).Env, e.Env) {
		e.EnvOf, e.Env = id, l.command(id).Env
	}
	return key
}

// deadlineLeft returns the time until the deadline timer ends and graceful kills the tree, or 0 if that timer does not
// run.
func (l *loop) deadlineLeft() time.Duration {
	for _, d := range l.run.Deadlines {
		if d.Name == machine.DeadlineTimer {
			return time.Until(d.At)
		}
	}
	return 0
}

// reserve reserves space in the ledger for the record of a registration, and for all later events of the run. after is
// the run after the event e. Without space, reserve refuses the command, and records nothing. It returns false if the
// caller must not handle e. For other events it returns true.
func (l *loop) reserve(e machine.Event, after Run) bool {
	added, ok := e.(machine.Registered)
	if !ok || l.recorder.ledger == nil || !after.Changed(l.run.Run) {
		return true
	}
	err := l.recorder.ledger.Reserve(int64(added.Entry.RecordSize()) + journal.Room(after.Run, after.signals()))
	if err != nil {
		l.registrar.answer = machine.Answer{Refusal: err.Error()}
	}
	return err == nil
}

// undoRequest refuses a request that could not be recorded because of err. after is the run after the event e of the
// request. undoRequest returns false for other events.
//
// If the ledger is full, the record is lost, and the run does not change. After any other error, the ledger keeps the
// record and may write it later. So the run changes, and undoRequest withdraws a registered command.
func (l *loop) undoRequest(e machine.Event, after Run, err error) bool {
	switch e.(type) {
	case machine.Registered, machine.Withdrawn:
	default:
		return false
	}
	refusal := err.Error()
	if !errors.Is(err, ledger.ErrFull) {
		l.run = after
		if _, ok := e.(machine.Registered); ok {
			l.handle(machine.Withdrawn{ID: after.Cleanup.Entries.Len(), Left: l.deadlineLeft()})
		} else {
			refusal = "it does not run, but should graceful be killed now it does: " + refusal
		}
	}
	l.registrar.answer = machine.Answer{Refusal: refusal}
	return true
}

// list lists the cleanup commands that are pending or running.
func (l *loop) list() *[]registry.Listed {
	list := []registry.Listed{}
	for c := range l.run.Cleanup.Entries.All() {
		if c.When != cleanup.AtExit || c.Progress > cleanup.Claimed {
			continue
		}
		state, exits := "pending", c.Awaited.PID
		if c.Delayed {
			exits = 0
		}
		if c.Progress == cleanup.Claimed {
			state = "running"
		}
		list = append(list, registry.Listed{
			ID: c.ID, State: state, Name: cleanup.Text(c.Name),
			Text: cleanup.Text(c.Command.Text), Command: cleanup.Texts(c.Command.Args),
			Dir: cleanup.Text(c.Dir), TimeoutMS: c.Command.Limit.Milliseconds(), WhenExits: exits,
		})
	}
	registry.Shorten(list)
	return &list
}
