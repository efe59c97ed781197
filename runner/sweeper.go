package runner

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"graceful/runner/machine"
	"graceful/runner/procfs"

	"golang.org/x/sys/unix"
)

// sweeper is the state of a tree that is being emptied. It decides when to check the tree again, and when to give up.
type sweeper struct {
	killing bool                     // SIGKILL is sent repeatedly until the tree is empty
	killed  map[procfs.Identity]kill // the processes that the last pass found
	look    time.Time                // when to check again whether the tree is empty; zero: when a child ends
	pause   time.Duration            // between two checks; it grows while no process ends
	givenUp []string                 // the processes that a warning has named as left
	unseen  time.Time                // since when passes find no process in a tree that is not empty
}

// kill is a process that was sent SIGKILL.
type kill struct {
	first time.Time
	name  string
}

func (s *sweeper) start() { s.killing, s.pause, s.look = true, 0, time.Now() }

func (s *sweeper) stop() {
	s.killing, s.look, s.pause, s.unseen = false, time.Time{}, 0, time.Time{}
}

// later schedules the next check. The pause grows, because the end of a process that is not a child is not reported.
func (s *sweeper) later() {
	s.pause = min(max(2*s.pause, time.Millisecond), 100*time.Millisecond)
	s.look = time.Now().Add(s.pause)
}

// pass records the processes that a pass of SIGKILL has found. It reports whether none of them can be ended: each may
// not be signalled, or has not ended within patience.
func (s *sweeper) pass(found, denied []procfs.Process, patience time.Duration) (hopeless bool) {
	now := time.Now()
	if len(found) > 0 {
		s.unseen = time.Time{}
	} else if s.unseen.IsZero() {
		s.unseen = now
	}
	hopeless = len(found) > 0 || now.Sub(s.unseen) >= patience
	killed := map[procfs.Identity]kill{}
	for _, p := range found {
		k, again := s.killed[p.Identity]
		if !again {
			k = kill{now, p.Name}
		}
		killed[p.Identity] = k
		forbidden := slices.ContainsFunc(denied, func(d procfs.Process) bool { return d.Identity == p.Identity })
		if !forbidden && now.Sub(k.first) < patience {
			hopeless = false
		}
	}
	s.killed = killed
	return hopeless
}

// left lists the processes that the last pass found.
func (s *sweeper) left() (left []procfs.Process) {
	for id, k := range s.killed {
		left = append(left, procfs.Process{Identity: id, Name: k.name})
	}
	return left
}

// names returns them in the form "pid (name)".
func (s *sweeper) names() (names []string) {
	for _, p := range s.left() {
		names = append(names, fmt.Sprintf("%d (%s)", p.PID, p.Name))
	}
	slices.Sort(names)
	return names
}

// emptying reports whether the tree is being emptied.
func (l *loop) emptying() bool {
	return l.run.State == machine.Sweeping || l.run.State == machine.Cleaning && l.run.Cleanup.Clearing || l.sweep.killing
}

// killMore kills the members that were born since the last pass. In the grace, it signals members that were orphaned
// meanwhile.
func (l *loop) killMore() {
	if l.sweep.killing && l.kill() {
		if left := l.sweep.names(); !slices.Equal(left, l.sweep.givenUp) { // one warning for all passes that leave them
			l.log.Warn("giving up on processes that SIGKILL does not end", "left", left)
			l.sweep.givenUp = left
		}
		l.record.history.Leave(l.sweep.left(), l.run.Run)
		l.sweep.killing, l.sweep.look = false, time.Time{}
		l.handle(machine.TreeEmptied{})
		return
	}
	sig := l.run.Config.Rewritten(machine.SigTERM)
	if sig != 0 && !l.sweep.killing && l.run.State == machine.Sweeping && !l.run.Waiting() {
		l.sys.SignalOrphans(syscall.Signal(sig), unix.SIGCONT)
	}
	if l.sweep.killing || !l.sys.ReportsEnds() {
		l.sweep.later()
	}
}

// kill sends SIGKILL to the members once. It reports whether the target has ended and no other member can be ended.
func (l *loop) kill() (hopeless bool) {
	found, denied := l.sys.Kill()
	for _, p := range found {
		l.record.history.Kill(p, l.run.Run)
	}
	hopeless = l.sweep.pass(found, denied, l.run.Config.Patience())
	if len(found) > 0 {
		l.log.Info("sent SIGKILL", "to", l.sweep.names())
	}
	return hopeless && l.run.Target.Ended
}
