package runner

import (
	"cmp"
	"slices"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// takeOver resumes a run whose supervisor was killed. The supervisor's children are reparented to the front. One of
// them may have been started and not recorded.
func (l *loop) takeOver(m remembered) {
	children := l.sys.Children()
	if l.run.Target.PID != 0 && !l.run.Target.Ended && !isAmong(children, l.run.Target.PID, l.run.Target.Start) {
		l.handle(machine.Recovered{After: m.Last}) // it was reaped, and its end was not recorded
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
	l.sys.setTarget(l.run)
	if l.run.State == machine.Starting && len(children) > 0 {
		first := slices.MinFunc(children, older) // all other members descend from the target
		l.run.Target.PID = first.PID
		l.sys.setTarget(l.run)
		l.handle(machine.TargetStarted{PID: first.PID, Start: first.Start})
	}
	l.adoptCommands(children, m.Claimed)
	for _, c := range l.run.Cleanup.Entries {
		l.awaitExit(*c)
	}
	for _, a := range machine.Resume(l.run.Run) {
		l.perform(a)
	}
	l.reapAll() // a child that has ended already did not end because of the takeover
}

// isAmong reports whether a recorded process is one of the children.
func isAmong(children []procfs.Process, pid int, start uint64) bool {
	return slices.ContainsFunc(children, func(p procfs.Process) bool { return p.Is(pid, start) })
}

// adoptCommands finds the command that was being started when the supervisor was killed. claimTimes gives the time
// since boot at which each running command was claimed.
//
// Commands are started one after the other. So there is at most one such command: the first that was claimed and not
// recorded as started, unless its start was to be retried. A child that was born since then is that command. There are
// two exceptions: commands in parallel may have left children behind, and other members of the tree may live. There
// only the environment tells.
func (l *loop) adoptCommands(children []procfs.Process, claimTimes map[int]time.Duration) {
	others := l.run.State < machine.Cleaning || l.run.Keeps()
	for _, id := range l.run.Cleanup.Active {
		if l.command(id).PID != 0 {
			continue
		}
		found := slices.DeleteFunc(slices.Clone(children), func(p procfs.Process) bool {
			return l.isRecorded(p) || p.BornBefore(claimTimes[id]) ||
				l.sys.isOtherCommand(p, id) || others && !l.sys.isCommand(p, id)
		})
		if len(found) > 0 {
			p := slices.MinFunc(found, older)
			l.commandStarted(l.command(id), p.PID, p.Start)
			return
		}
		others = true
	}
}

// isRecorded reports whether a process is recorded as the target or as a command. A target that has ended may not be
// reaped yet, or another process may have its pid.
func (l *loop) isRecorded(p procfs.Process) bool {
	target := l.run.Target
	if p.PID == target.PID && (!target.Ended || p.Start != 0 && p.Start == target.Start) {
		return true
	}
	return slices.ContainsFunc(l.run.Cleanup.Entries, func(c *cleanup.Entry) bool { return p.Is(c.PID, c.Start) })
}

// older compares processes by their start times. An unknown start time comes last.
func older(a, b procfs.Process) int {
	return cmp.Or(cmp.Compare(a.Start-1, b.Start-1), cmp.Compare(a.PID, b.PID))
}
