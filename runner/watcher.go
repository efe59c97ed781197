package runner

import (
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// watcher watches processes that are not children of graceful.
type watcher struct {
	awaited   map[procfs.Identity][]int // the ids of the commands that wait for a process
	unwatched []procfs.Identity         // processes in awaited that graceful must poll, because their end is not reported
	commands  []procfs.Identity         // running cleanup commands of another process of graceful
	at        time.Time                 // time of the next poll of commands and unwatched; zero: there is nothing to poll
}

// watchEvery is the time between two polls.
const watchEvery = 50 * time.Millisecond

// awaitExit watches the process that a command waits for. The command starts when that process has ended.
func (l *loop) awaitExit(c cleanup.Entry) {
	if c.Exits.PID == 0 || c.Progress != cleanup.Pending || c.Delayed || l.run.State >= machine.Cleaning {
		return
	}
	w, id := &l.waits, procfs.Identity(c.Exits)
	if w.awaited == nil {
		w.awaited = map[procfs.Identity][]int{}
	}
	if len(w.awaited[id]) == 0 && !l.sys.awaitExit(id) {
		w.unwatched = append(w.unwatched, id)
		if w.at.IsZero() {
			w.at = time.Now()
		}
	}
	w.awaited[id] = append(w.awaited[id], c.ID)
}

// processExited starts the commands that wait for a process.
func (l *loop) processExited(id procfs.Identity) {
	w := &l.waits
	waiting := w.awaited[id]
	delete(w.awaited, id)
	w.unwatched = without(w.unwatched, id)
	for _, command := range waiting {
		l.handle(machine.ProcessExited{ID: command})
	}
}

// checkExits polls the processes in commands and unwatched, because the system does not report their ends.
func (l *loop) checkExits() {
	w, now := &l.waits, time.Now()
	if w.at.IsZero() || now.Before(w.at) {
		return
	}
	for _, p := range w.commands {
		if !l.sys.Alive(p) {
			w.commands = without(w.commands, p)
			id, _ := l.commandOf(p.PID)
			l.handle(machine.CommandEnded{ID: id, Unseen: true})
		}
	}
	for _, p := range w.unwatched {
		if !l.sys.Alive(p) {
			l.processExited(p)
		}
	}
	w.at = time.Time{}
	if len(w.commands)+len(w.unwatched) > 0 {
		w.at = time.Now().Add(max(watchEvery, time.Since(now))) // polls take at most half of the time
	}
}

// without returns a copy of a list without one process. It does not change the list itself, because a loop may be
// reading it.
func without(list []procfs.Identity, id procfs.Identity) []procfs.Identity {
	return slices.DeleteFunc(slices.Clone(list), func(other procfs.Identity) bool { return other == id })
}
