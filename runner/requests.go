package runner

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner/tree"
)

// How the loop lets the machine decide on what processes of the tree ask for, and answers once that is recorded.

func (l *loop) request(c registry.Call) {
	if c.Gone() { // a command whose id nobody has learnt would be one that nobody has registered
		l.log.Info("nobody waits any more for the answer to "+c.Do, "for", c.Peer.PID)
		c.Answer(registry.Response{})
		return
	}
	if err := l.sys.admit(c); err != nil {
		l.log.Info("refused to "+c.Do, "for", c.Peer.PID, "err", err)
		c.Answer(registry.Response{Error: err.Error(), Busy: outOfResources(err)})
		return
	}
	switch c.Do {
	case registry.List:
		c.Answer(registry.Response{Commands: l.list()})
		return
	case registry.Cancel:
		l.handle(withdrawn{c.ID, l.left()})
	default:
		l.register(c)
	}
	if l.said.refusal == "" {
		l.log.Info(map[string]string{registry.Defer: "registered ", registry.Cancel: "withdrew "}[c.Do]+commandName(l.command(l.said.id)), "for", c.Peer.PID)
	} else {
		l.log.Info("refused to "+c.Do, "for", c.Peer.PID, "err", l.said.refusal)
	}
	c.Answer(registry.Response{ID: l.said.id, Error: l.said.refusal})
}

func (l *loop) register(c registry.Call) {
	e := c.Entry()
	if e.Command.Limit == 0 {
		e.Command.Limit = l.run.Config.OnExitLimit
	}
	if e.Command.NeedsShell() {
		if err := haveShell(); err != nil {
			l.said = answer{refusal: fmt.Sprintf("%s: %v (without a shell give a command)", cleanup.Shell, err)}
			return
		}
	}
	if pid := e.Exits.PID; pid != 0 {
		p, err := l.sys.member(pid, e.Exits.Start, c.Peer.PID)
		if err != nil {
			l.said = answer{refusal: err.Error()}
			return
		}
		e.Exits.Start = p.Start
	}
	key := l.shareEnv(&e)
	before := len(l.run.Cleanup.Entries)
	l.handle(registered{entry: e, left: l.left()})
	if len(l.run.Cleanup.Entries) == before || l.said.refusal != "" {
		return // or it was registered before
	}
	if e.Env != nil && e.EnvOf == 0 {
		l.envs[key] = l.said.id
	}
	l.await(l.command(l.said.id))
}

// shareEnv has commands share an environment that is the same: a script that registers many has one.
func (l *loop) shareEnv(e *cleanup.Entry) (key [sha256.Size]byte) {
	sum := func(env []string) [sha256.Size]byte { return sha256.Sum256([]byte(strings.Join(env, "\x00"))) }
	if l.envs == nil {
		l.envs = map[[sha256.Size]byte]int{}
		for _, old := range l.run.Cleanup.Entries { // others have led the run so far
			if old.Env != nil && old.EnvOf == 0 {
				l.envs[sum(old.Env)] = old.ID
			}
		}
	}
	if e.Env == nil {
		return key
	}
	key = sum(e.Env)
	if id := l.envs[key]; id != 0 {
		e.EnvOf, e.Env = id, l.command(id).Env
	}
	return key
}

// left is what the deadline still leaves for the stop; 0 when it does not run.
func (l *loop) left() time.Duration {
	for _, d := range l.run.Deadlines {
		if d.Name == deadlineTimer {
			return time.Until(d.At)
		}
	}
	return 0
}

// reserve sets aside space for the record of a registration and for all events that may follow. Without that space the
// command is refused, and nothing is recorded. reserve reports whether e can be handled.
func (l *loop) reserve(e event, after Run) bool {
	added, ok := e.(registered)
	if !ok || l.ledger == nil || !after.moved(l.run) {
		return true
	}
	err := l.ledger.Reserve(int64(sizeOf(added.entry)) + after.room())
	if err != nil {
		l.said = answer{refusal: err.Error()}
	}
	return err == nil
}

// takeBack deals with a request that could not be recorded: it is refused. What has no room is as if it had never been;
// else the record may still be written, with the next one, and the command is withdrawn. It returns false for other events.
func (l *loop) takeBack(e event, after Run, err error) bool {
	switch e.(type) {
	case registered, withdrawn:
	default:
		return false
	}
	refusal := err.Error()
	if !errors.Is(err, ledger.ErrFull) {
		l.run = after
		if _, ok := e.(registered); ok {
			l.handle(withdrawn{len(after.Cleanup.Entries), l.left()})
		} else {
			refusal = "it does not run, but should graceful be killed now it does: " + refusal
		}
	}
	l.said = answer{refusal: refusal}
	return true
}

// await has us told of the end of the process that a command waits for.
func (l *loop) await(c cleanup.Entry) {
	if c.Exits.PID == 0 || c.Progress != cleanup.Pending || l.run.State >= Cleaning {
		return
	}
	id := tree.Identity(c.Exits)
	if l.awaited == nil {
		l.awaited = map[tree.Identity][]int{}
	}
	if len(l.awaited[id]) == 0 && !l.sys.await(id) {
		l.unwatched = append(l.unwatched, id)
		if l.watchAt.IsZero() {
			l.watchAt = time.Now()
		}
	}
	l.awaited[id] = append(l.awaited[id], c.ID)
}

// exited starts the commands that have waited for a process.
func (l *loop) exited(id tree.Identity) {
	waiting := l.awaited[id]
	delete(l.awaited, id)
	l.unwatched = slices.DeleteFunc(slices.Clone(l.unwatched), func(other tree.Identity) bool { return other == id })
	for _, command := range waiting {
		l.handle(exited{command})
	}
}

// list is the cleanup commands that have not ended.
func (l *loop) list() *[]registry.Listed {
	list := []registry.Listed{}
	for _, c := range l.run.Cleanup.Entries {
		if c.When != cleanup.AtExit || c.Progress > cleanup.Claimed {
			continue
		}
		state := "pending"
		if c.Progress == cleanup.Claimed {
			state = "running"
		}
		list = append(list, registry.Listed{
			ID: c.ID, State: state, Name: ledger.Text(c.Name), Text: ledger.Text(c.Command.Text), Command: texts(c.Command.Args),
			Dir: ledger.Text(c.Dir), TimeoutMS: c.Command.Limit.Milliseconds(), WhenExits: c.Exits.PID,
		})
	}
	return &list
}
