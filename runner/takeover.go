package runner

import (
	"cmp"
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// How the loop enters a run that another process has led so far: one whose children are now ours, or one whose
// children are nobody's.

// takeOver goes on with a run that another process led until it was killed. Its children have become ours: also one
// that it had started and not written down yet.
func (l *loop) takeOver(m remembered) {
	children := l.sys.Children()
	if l.run.Target.PID != 0 && !l.run.Target.Ended && !isAmong(children, l.run.Target.PID, l.run.Target.Start) {
		l.handle(machine.Recovered{After: m.last}) // it has been reaped, and that could not be written down
	}
	for _, c := range l.run.Cleanup.Entries {
		switch {
		case c.Progress != cleanup.Claimed || c.PID == 0:
		case !isAmong(children, c.PID, c.Start):
			l.handle(machine.CommandEnded{ID: c.ID, Unseen: true})
		case c.When == cleanup.AtExit && l.run.State < machine.Cleaning:
			l.sys.Exempt(c.PID)
		}
	}
	l.sys.targetIs(l.run)
	if l.run.State == machine.Starting && len(children) > 0 {
		first := slices.MinFunc(children, older) // everybody else in the tree descends from the target
		l.run.Target.PID = first.PID
		l.sys.targetIs(l.run)
		l.handle(machine.TargetStarted{PID: first.PID, Start: first.Start})
	}
	l.adoptCommands(children, m.claimed)
	for _, c := range l.run.Cleanup.Entries {
		l.await(*c)
	}
	for _, a := range machine.Resume(l.run.Run) {
		l.perform(a)
	}
	l.reapAll() // what has ended by itself has not ended because of us
}

// isAmong tells whether a process that was written down is one of our own children.
func isAmong(children []procfs.Process, pid int, start uint64) bool {
	return slices.ContainsFunc(children, func(p procfs.Process) bool { return p.Is(pid, start) })
}

// adoptCommands finds the command that was being started when the run lost its leader. Commands are started one after
// the other, so there is at most one: the first that was claimed, unless that was to be tried again. But for commands in
// parallel, which may have left children behind by then, nobody else can have become our child since it was claimed. Where
// others of the tree live, the command is known by its environment alone.
func (l *loop) adoptCommands(children []procfs.Process, claimed map[int]time.Duration) {
	others := l.run.State < machine.Cleaning || l.run.Keeps()
	for _, id := range l.run.Cleanup.Active {
		if l.command(id).PID != 0 {
			continue
		}
		found := slices.DeleteFunc(slices.Clone(children), func(p procfs.Process) bool {
			// One that has ended may not have been reaped, or another have its pid by now.
			known := p.PID == l.run.Target.PID && (!l.run.Target.Ended || p.Start != 0 && p.Start == l.run.Target.Start)
			for _, other := range l.run.Cleanup.Entries {
				known = known || p.Is(other.PID, other.Start)
			}
			return known || p.BornBefore(claimed[id]) || l.sys.isOtherCommand(p, id) || others && !l.sys.isCommand(p, id)
		})
		if len(found) > 0 {
			p := slices.MinFunc(found, older)
			if l.command(id).When == cleanup.AtExit && l.run.State < machine.Cleaning {
				l.sys.Exempt(p.PID)
			}
			l.handle(machine.CommandStarted{ID: id, PID: p.PID, Start: p.Start})
			return
		}
		others = true
	}
}

// older puts those last whose start time is unknown.
func older(a, b procfs.Process) int {
	return cmp.Or(cmp.Compare(a.Start-1, b.Start-1), cmp.Compare(a.PID, b.PID))
}

// recover goes on with a run that nobody leads any more, and whose processes are nobody's children. same tells whether
// there can be any.
func (l *loop) recover(m remembered, same, retry bool) {
	if l.run.State >= machine.Cleaning && l.run.Keeps() && !l.run.Stop.Escalated {
		l.perform(machine.LeaveSurvivors{})
	}
	was := l.run
	for _, id := range was.Cleanup.Running(cleanup.AtExit) {
		c := l.command(id)
		if p, ok := l.runningCommand(c); same && ok {
			if was.State < machine.Cleaning {
				l.sys.Exempt(p.PID)
			}
			if c.PID == 0 {
				l.handle(machine.CommandStarted{ID: c.ID, PID: p.PID, Start: p.Start})
			}
			l.waits.commands, l.waits.at = append(l.waits.commands, p), time.Now()
		} else {
			l.handle(machine.CommandLost{ID: c.ID})
		}
	}
	if was.State < machine.Sweeping {
		l.handle(machine.Recovered{After: m.last})
	} else if was.State < machine.Cleaning || was.Cleanup.Relaying || was.Cleanup.Clearing {
		for _, a := range machine.Resume(l.run.Run) {
			l.perform(a)
		}
	}
	if retry {
		l.handle(machine.Retried{})
	}
}

// runningCommand finds the process of a cleanup command that others have started.
func (l *loop) runningCommand(c cleanup.Entry) (procfs.Process, bool) {
	members := slices.DeleteFunc(l.sys.Members(), func(p procfs.Process) bool {
		if c.PID != 0 {
			return c.Start == 0 || p.PID != c.PID || p.Start != c.Start
		}
		return l.sys.isOtherCommand(p, c.ID) || l.run.State < machine.Cleaning && !l.sys.isCommand(p, c.ID)
	})
	if len(members) == 0 {
		return procfs.Process{}, false
	}
	return slices.MinFunc(members, older), true
}
