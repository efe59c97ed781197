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

// sweeper keeps what is known of a tree that is being emptied, and says when to look at it again and when to give up.
type sweeper struct {
	killing bool                     // SIGKILL, again and again until the tree is empty
	killed  map[procfs.Identity]kill // the processes that the last pass found
	look    time.Time                // when to look again whether the tree is empty; zero: when a child ends
	pause   time.Duration            // until then; it grows while nothing ends
	givenUp []string                 // the processes that a warning has named as left
	unseen  time.Time                // since when passes have found no process though the tree is not empty
}

// kill is what is known of a process that SIGKILL was sent to.
type kill struct {
	first time.Time
	name  string
}

func (s *sweeper) start() { s.killing, s.pause, s.look = true, 0, time.Now() }

func (s *sweeper) stop() {
	s.killing, s.look, s.pause, s.unseen = false, time.Time{}, 0, time.Time{}
}

// later sets when to look again. The pause grows: the end of a process that is not our child is not reported.
func (s *sweeper) later() {
	s.pause = min(max(2*s.pause, time.Millisecond), 100*time.Millisecond)
	s.look = time.Now().Add(s.pause)
}

// pass takes what a pass of SIGKILL has found. It reports whether all that is left cannot be ended: it may not be signalled, or
// has not ended within patience.
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

// names lists them for people.
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

// killMore kills the members that were born since the last pass, or signals those whose parents have ended meanwhile.
func (l *loop) killMore() {
	if l.sweep.killing && l.kill() {
		if left := l.sweep.names(); !slices.Equal(left, l.sweep.givenUp) { // after each cleanup command they are still there
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
	if l.sweep.killing || !l.sys.Announced() {
		l.sweep.later()
	}
}

// kill makes one pass of SIGKILL over the tree. It reports whether the target has ended and all that is left cannot be ended.
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
