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
	waitingCommands map[procfs.Identity][]int // the ids of the commands that wait for a process
	polledProcesses []procfs.Identity         // processes in waitingCommands whose end is not reported
	polledCommands  []procfs.Identity         // running cleanup commands of another process of graceful
	nextPoll        time.Time                 // time of the next poll of both lists; zero: there is nothing to poll
}

// pollPause is the time between two polls.
const pollPause = 50 * time.Millisecond

// awaitExit watches the process that a command waits for. The command starts when that process has ended.
func (l *loop) awaitExit(c cleanup.Entry) {
	if c.Awaited.PID == 0 || c.Progress != cleanup.Pending || c.Delayed || l.run.State >= machine.Cleaning {
		return
	}
	w, id := &l.watcher, procfs.Identity(c.Awaited)
	if w.waitingCommands == nil {
		w.waitingCommands = map[procfs.Identity][]int{}
	}
	if len(w.waitingCommands[id]) == 0 && !l.sys.awaitExit(id) {
		w.polledProcesses = append(w.polledProcesses, id)
		if w.nextPoll.IsZero() {
			w.nextPoll = time.Now()
		}
	}
	w.waitingCommands[id] = append(w.waitingCommands[id], c.ID)
}

// processExited starts the commands that wait for a process.
func (l *loop) processExited(id procfs.Identity) {
	w := &l.watcher
	waiting := w.waitingCommands[id]
	delete(w.waitingCommands, id)
	w.polledProcesses = without(w.polledProcesses, id)
	for _, command := range waiting {
		l.handle(machine.ProcessExited{ID: command})
	}
}

// checkExits polls the processes whose ends the system does not report.
func (l *loop) checkExits() {
	w, now := &l.watcher, time.Now()
	if w.nextPoll.IsZero() || now.Before(w.nextPoll) {
		return
	}
	for _, p := range w.polledCommands {
		if !l.sys.Alive(p) {
			w.polledCommands = without(w.polledCommands, p)
			id, _ := l.commandOf(p.PID)
			l.handle(machine.CommandEnded{ID: id, Unseen: true})
		}
	}
	for _, p := range w.polledProcesses {
		if !l.sys.Alive(p) {
			l.processExited(p)
		}
	}
	w.nextPoll = time.Time{}
	if len(w.polledCommands)+len(w.polledProcesses) > 0 {
		w.nextPoll = time.Now().Add(max(pollPause, time.Since(now))) // polls take at most half of the time
	}
}

// without returns a copy of a list without one process. It does not change the list itself, because a loop may be
// reading it.
func without(list []procfs.Identity, id procfs.Identity) []procfs.Identity {
	return slices.DeleteFunc(slices.Clone(list), func(other procfs.Identity) bool { return other == id })
}
