package runner

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// minScan and maxScan limit the time for one scan of the tree. While a deadline runs, that time is half of the time
// until the deadline timer ends, but at least minScan and at most maxScan. Otherwise it is maxScan. A scan of less than
// minScan could miss processes, which would then count as ended.
const minScan, maxScan = 2 * time.Second, 10 * time.Second

// limitScan limits the time that the next scans of the tree may take.
func (l *loop) limitScan() {
	limit := maxScan
	if l.run.Stop.DeadlineStarted {
		limit = min(max(l.deadlineLeft()/2, minScan), maxScan)
	}
	l.sys.SetScanLimit(time.Now().Add(limit))
}

// sweeper is the state of a tree that is being emptied. It schedules the checks whether the tree is empty, and decides
// when to give up.
type sweeper struct {
	killing     bool                           // SIGKILL is sent repeatedly until the tree is empty or given up
	began       time.Time                      // time at which the killing began
	passMade    bool                           // a pass of SIGKILL was made
	killed      map[procfs.Identity]killRecord // by identity, the processes that the last pass found
	denied      map[int]bool                   // pids in killed that graceful may not signal
	nextCheck   time.Time                      // time of the next check for an empty tree; zero: at the end of a child
	pause       time.Duration                  // time between two checks; it grows while no process ends
	lastWarning []string                       // the remaining processes in the last warning
	emptySince  time.Time                      // time since which passes find no process; zero: the last pass found one
}

// killRecord records that SIGKILL was sent to a process.
type killRecord struct {
	first time.Time // time of the pass that found the process first; each later pass has found it, too
	name  string    // name of the process at that time
}

func (s *sweeper) start() {
	now := time.Now()
	s.killing, s.began, s.passMade, s.pause, s.nextCheck = true, now, false, 0, now
}

func (s *sweeper) stop() {
	s.killing, s.nextCheck, s.pause, s.emptySince = false, time.Time{}, 0, time.Time{}
}

// scheduleCheck schedules the next check. The pause before the check grows from call to call, up to 100 ms. Checks are
// needed because the kernel reports only the ends of children.
func (s *sweeper) scheduleCheck() {
	s.pause = min(max(2*s.pause, time.Millisecond), 100*time.Millisecond)
	s.nextCheck = time.Now().Add(s.pause)
}

// recordPass records the result of a pass of SIGKILL. found lists the members that the pass has found. denied lists
// those of them that graceful may not signal. target is the pid of the target, or 0 after the end of the target.
// patience is the time that a member may take to end. late means that the pass may have missed members.
//
// hopeless means that another pass is useless. That is so in three cases:
//
//   - Each found member has had its time since the first pass that found it. That time is patience, and at least
//     machine.AbandonAfter for an exiting member. A member that graceful may not signal gets no time, unless it is the
//     target.
//   - No pass has found a member for the time patience.
//   - New members keep appearing: the killing began twice patience ago, and the pass has found a member that is not
//     exiting and that no pass had found when patience was over.
//
// In the last two cases, a late pass is hopeless only after machine.AbandonAfter.
func (s *sweeper) recordPass(
	found, denied []procfs.Process, target int, patience time.Duration, late bool,
) (hopeless bool) {
	now := time.Now()
	if len(found) > 0 {
		s.emptySince = time.Time{}
	} else if s.emptySince.IsZero() {
		s.emptySince = now
	}
	unseen, storm := patience, 2*patience
	if late {
		unseen, storm = max(unseen, machine.AbandonAfter), max(storm, machine.AbandonAfter)
	}
	hopeless = len(found) > 0 || now.Sub(s.emptySince) >= unseen
	born := false // a member was first found when patience was over
	killed := map[procfs.Identity]killRecord{}
	s.denied = map[int]bool{}
	for _, p := range denied {
		s.denied[p.PID] = true
	}
	for _, p := range found {
		k, again := s.killed[p.Identity]
		if !again {
			k = killRecord{now, p.Name}
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

// emptying reports whether the tree is being emptied, so that the loop must check whether it is empty.
func (l *loop) emptying() bool {
	return l.run.State == machine.Sweeping || l.run.State == machine.Cleaning && l.run.Cleanup.Clearing ||
		l.sweeper.killing
}

// killMore makes another pass of SIGKILL, and gives up if that is hopeless. During the grace period of survivors, it
// does not kill, but sends SIGTERM to members that were orphaned meanwhile. If the ends of children do not suffice,
// killMore schedules the next check.
func (l *loop) killMore() {
	if l.sweeper.killing && l.kill() {
		if !l.run.Target.Ended {
			l.giveUpTarget()
			return
		}
		if left := l.sweeper.names(); !slices.Equal(left, l.sweeper.lastWarning) { // one warning for each set of processes
			l.log.Warn("giving up on processes that SIGKILL does not end", "left", left)
			l.sweeper.lastWarning = left
		}
		if len(l.sweeper.killed) == 0 && l.sys.IsLate() {
			l.log.Warn("giving up on the tree", "err", "its processes could not be read in time")
		}
		l.recorder.history.RecordLeft(l.sweeper.left(), l.run.Run)
		l.sweeper.killing, l.sweeper.nextCheck = false, time.Time{}
		l.handle(machine.TreeEmptied{})
		return
	}
	if !l.sweeper.killing && l.run.State == machine.Sweeping && !l.run.WaitsForSurvivors() {
		l.sys.SignalOrphans(unix.SIGTERM, unix.SIGCONT)
	}
	if l.sweeper.killing || !l.sys.ReportsEnds() || l.sys.IsLate() {
		l.sweeper.scheduleCheck()
	}
}

// giveUpTarget continues the run without a target that SIGKILL has not ended, or that graceful may not signal.
func (l *loop) giveUpTarget() {
	pid := l.run.Target.PID
	if l.sweeper.denied[pid] {
		l.log.Error("giving up on the target", "pid", pid, "user", l.sys.UserOf(pid),
			"err", "graceful may not signal it: it lacks CAP_KILL", "hint", "run graceful as that user, or with CAP_KILL")
	} else {
		l.log.Warn("giving up on the target", "pid", pid, "err", "SIGKILL does not end it")
	}
	l.sweeper.lastWarning = l.sweeper.names()
	l.recorder.history.RecordLeft(l.sweeper.left(), l.run.Run)
	l.handle(machine.TargetGivenUp{After: time.Since(l.began)})
}

// killsGroup reports whether SIGKILL goes only to the target's process group: the target lives, and the run keeps the
// other members.
func (l *loop) killsGroup() bool { return l.run.KeepsSurvivors() && l.run.State == machine.Killing }

// kill sends SIGKILL to the members once. hopeless is the result of recordPass. From the second pass on, kill first
// kills the children without examining each, because a process that forks and ends may not live long enough to be
// examined. If SIGKILL goes only to the target's group, kill does not do so.
func (l *loop) kill() (hopeless bool) {
	kill := l.sys.Kill
	if l.killsGroup() {
		kill = l.sys.KillGroup
	} else if l.sweeper.passMade {
		l.sys.KillChildren()
	}
	l.sweeper.passMade = true
	found, denied := kill()
	for _, p := range found {
		l.recorder.history.RecordKilled(p, l.run.Run)
	}
	target := l.run.Target.PID
	if l.run.Target.Ended {
		target = 0
	}
	hopeless = l.sweeper.recordPass(found, denied, target, l.run.Patience(), l.sys.IsLate())
	if len(found) > 0 {
		l.log.Info("sent SIGKILL", "to", l.sweeper.names())
	}
	return hopeless
}
