package runner

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// minLook and maxLook limit the time for one look at the tree. While a deadline runs, that time is half of the time
// until the deadline. A look of less than minLook could miss processes, which would then count as ended.
const minLook, maxLook = 2 * time.Second, 10 * time.Second

// limitLook limits the time that the next looks at the tree may take.
func (l *loop) limitLook() {
	limit := maxLook
	if l.run.Stop.Bounded {
		limit = min(max(l.deadlineLeft()/2, minLook), maxLook)
	}
	l.sys.Until(time.Now().Add(limit))
}

// sweeper is the state of a tree that is being emptied. It schedules the checks whether the tree is empty, and decides
// when to give up.
type sweeper struct {
	killing bool                     // SIGKILL is sent repeatedly until the tree is empty
	began   time.Time                // time at which the killing began
	again   bool                     // a pass of SIGKILL was made
	killed  map[procfs.Identity]kill // the processes that the last pass found
	denied  map[int]bool             // pids in killed that graceful may not signal
	look    time.Time                // time of the next check whether the tree is empty; zero: when a child ends
	pause   time.Duration            // time between two checks; it grows while no process ends
	givenUp []string                 // the remaining processes in the last warning
	unseen  time.Time                // time since which passes find no process, although the tree is not empty
}

// kill records that SIGKILL was sent to a process.
type kill struct {
	first time.Time
	name  string
}

func (s *sweeper) start() {
	now := time.Now()
	s.killing, s.began, s.again, s.pause, s.look = true, now, false, 0, now
}

func (s *sweeper) stop() {
	s.killing, s.look, s.pause, s.unseen = false, time.Time{}, 0, time.Time{}
}

// later schedules the next check. The pause before it grows. Checks are needed because the kernel reports only the ends
// of children.
func (s *sweeper) later() {
	s.pause = min(max(2*s.pause, time.Millisecond), 100*time.Millisecond)
	s.look = time.Now().Add(s.pause)
}

// pass records the processes that a pass of SIGKILL has found. hopeless means that graceful can end none of them,
// because it may not signal them or they have not ended within patience. graceful always waits that time for a live
// target. hopeless is also true if new processes have kept appearing for twice that time. late means that the pass may
// have missed processes.
func (s *sweeper) pass(found, denied []procfs.Process, target int, patience time.Duration, late bool) (hopeless bool) {
	now := time.Now()
	if len(found) > 0 {
		s.unseen = time.Time{}
	} else if s.unseen.IsZero() {
		s.unseen = now
	}
	unseen, storm := patience, 2*patience
	if late {
		unseen, storm = max(unseen, machine.AbandonAfter), max(storm, machine.AbandonAfter)
	}
	hopeless = len(found) > 0 || now.Sub(s.unseen) >= unseen
	born := false // a process was born since the killing began
	killed := map[procfs.Identity]kill{}
	s.denied = map[int]bool{}
	for _, p := range denied {
		s.denied[p.PID] = true
	}
	for _, p := range found {
		k, again := s.killed[p.Identity]
		if !again {
			k = kill{now, p.Name}
		}
		killed[p.Identity] = k
		allowed := patience
		if p.Exiting { // freeing its memory may take seconds
			allowed = max(patience, machine.AbandonAfter)
		}
		born = born || !p.Exiting && k.first.Sub(s.began) >= patience
		if (!s.denied[p.PID] || p.PID == target) && now.Sub(k.first) < allowed {
			hopeless = false
		}
	}
	s.killed = killed
	return hopeless || born && now.Sub(s.began) >= storm
}

// left lists the processes that the last pass found.
func (s *sweeper) left() (left []procfs.Process) {
	for id, k := range s.killed {
		left = append(left, procfs.Process{Identity: id, Name: k.name})
	}
	return left
}

// names returns the processes that the last pass found, in the form "pid (name)".
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

// killMore kills the members that were born since the last pass. During the grace period, it does not kill, but signals
// members that were orphaned meanwhile.
func (l *loop) killMore() {
	if l.sweep.killing && l.kill() {
		if !l.run.Target.Ended {
			l.giveUpTarget()
			return
		}
		if left := l.sweep.names(); !slices.Equal(left, l.sweep.givenUp) { // one warning for each set of processes
			l.log.Warn("giving up on processes that SIGKILL does not end", "left", left)
			l.sweep.givenUp = left
		}
		if len(l.sweep.killed) == 0 && l.sys.IsLate() {
			l.log.Warn("giving up on the tree", "err", "its processes could not be read in time")
		}
		l.record.history.Leave(l.sweep.left(), l.run.Run)
		l.sweep.killing, l.sweep.look = false, time.Time{}
		l.handle(machine.TreeEmptied{})
		return
	}
	if !l.sweep.killing && l.run.State == machine.Sweeping && !l.run.Waiting() {
		l.sys.SignalOrphans(unix.SIGTERM, unix.SIGCONT)
	}
	if l.sweep.killing || !l.sys.ReportsEnds() || l.sys.IsLate() {
		l.sweep.later()
	}
}

// giveUpTarget continues the run without a target that SIGKILL has not ended.
func (l *loop) giveUpTarget() {
	pid := l.run.Target.PID
	if l.sweep.denied[pid] {
		l.log.Error("giving up on the target", "pid", pid, "user", l.sys.UserOf(pid),
			"err", "graceful may not signal it: it lacks CAP_KILL", "hint", "run graceful as that user, or with CAP_KILL")
	} else {
		l.log.Warn("giving up on the target", "pid", pid, "err", "SIGKILL does not end it")
	}
	l.sweep.givenUp = l.sweep.names()
	l.record.history.Leave(l.sweep.left(), l.run.Run)
	l.handle(machine.TargetGivenUp{After: time.Since(l.began)})
}

// killsGroup reports whether SIGKILL goes only to the target's process group, because the run keeps the other members.
func (l *loop) killsGroup() bool { return l.run.Keeps() && l.run.State == machine.Killing }

// kill sends SIGKILL to the members once. hopeless means that graceful can end none of them. From the second pass on,
// kill first kills the children without examining each, because a process that forks and ends may not live long enough
// to be examined.
func (l *loop) kill() (hopeless bool) {
	kill := l.sys.Kill
	if l.killsGroup() {
		kill = l.sys.KillGroup
	} else if l.sweep.again {
		l.sys.KillChildren()
	}
	l.sweep.again = true
	found, denied := kill()
	for _, p := range found {
		l.record.history.Kill(p, l.run.Run)
	}
	target := l.run.Target.PID
	if l.run.Target.Ended {
		target = 0
	}
	hopeless = l.sweep.pass(found, denied, target, l.run.Patience(), l.sys.IsLate())
	if len(found) > 0 {
		l.log.Info("sent SIGKILL", "to", l.sweep.names())
	}
	return hopeless
}
