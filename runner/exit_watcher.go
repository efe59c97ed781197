package runner

import (
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// watcher contains the processes that commands wait for, and the running commands that the loop cannot reap.
type watcher struct {
	waitingCommands map[procfs.Identity][]int // by process, the ids of the commands that wait for its end
	polledProcesses []procfs.Identity         // processes in waitingCommands whose ends the system does not report
	polledCommands  []procfs.Identity         // running cleanup commands that an earlier graceful has started
	nextPoll        time.Time                 // time of the next poll of polledProcesses and polledCommands; zero: none
}

// pollPause is the minimum time between two polls.
const pollPause = 50 * time.Millisecond

// awaitExit makes the loop tell the machine when the process that the command c waits for has ended. It does nothing if
// c waits for no process, is not pending, or is delayed, and after cleanup has begun.
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

// processExited tells the machine that a process has ended, for each command that waits for that process.
func (l *loop) processExited(id procfs.Identity) {
	w := &l.watcher
	waiting := w.waitingCommands[id]
	delete(w.waitingCommands, id)
	w.polledProcesses = without(w.polledProcesses, id)
	for _, command := range waiting {
		l.handle(machine.ProcessExited{ID: command})
	}
}

// checkExits polls polledCommands and polledProcesses if a poll is due, and handles the processes that have ended.
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

// without returns a copy of a list without one process. It does not change the list itself, because the caller may be
// iterating over it.
func without(list []procfs.Identity, id procfs.Identity) []procfs.Identity {
	return slices.DeleteFunc(slices.Clone(list), func(other procfs.Identity) bool { return other == id })
}
