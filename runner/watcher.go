package runner

import (
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// watcher keeps the processes whose end matters and that are not graceful's children.
type watcher struct {
	awaited   map[procfs.Identity][]int // the commands that wait for a process
	unwatched []procfs.Identity         // those of them whose end is not reported: they have to be looked at
	commands  []procfs.Process          // cleanup commands that run, and that another process of graceful started
	at        time.Time                 // when to look at those and at the unwatched again; zero: there are none
}

// watchEvery is how often the watcher looks whether a process has ended.
const watchEvery = 50 * time.Millisecond

// await has a command started when the process has ended that it waits for.
func (l *loop) await(c cleanup.Entry) {
	if c.Exits.PID == 0 || c.Progress != cleanup.Pending || l.run.State >= machine.Cleaning {
		return
	}
	w, id := &l.waits, procfs.Identity(c.Exits)
	if w.awaited == nil {
		w.awaited = map[procfs.Identity][]int{}
	}
	if len(w.awaited[id]) == 0 && !l.sys.await(id) {
		w.unwatched = append(w.unwatched, id)
		if w.at.IsZero() {
			w.at = time.Now()
		}
	}
	w.awaited[id] = append(w.awaited[id], c.ID)
}

// exited starts the commands that have waited for a process.
func (l *loop) exited(id procfs.Identity) {
	w := &l.waits
	waiting := w.awaited[id]
	delete(w.awaited, id)
	w.unwatched = slices.DeleteFunc(slices.Clone(w.unwatched), func(other procfs.Identity) bool { return other == id })
	for _, command := range waiting {
		l.handle(machine.Exited{ID: command})
	}
}

// watch looks at the processes whose end is not reported.
func (l *loop) watch() {
	w, now := &l.waits, time.Now()
	if w.at.IsZero() || now.Before(w.at) {
		return
	}
	for _, p := range w.commands {
		if l.sys.Alive(p.Identity) {
			continue
		}
		w.commands = slices.DeleteFunc(slices.Clone(w.commands), func(q procfs.Process) bool { return q.Identity == p.Identity })
		id, _ := l.commandOf(p.PID)
		l.handle(machine.CommandEnded{ID: id, Unseen: true})
	}
	for _, id := range w.unwatched {
		if !l.sys.Alive(id) {
			l.exited(id)
		}
	}
	w.at = time.Time{}
	if len(w.commands)+len(w.unwatched) > 0 {
		w.at = time.Now().Add(max(watchEvery, time.Since(now))) // a look must not take all the time
	}
}
