package runner

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/registry"
	"graceful/forward"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// loop performs what the machine decides. One goroutine does all of it.
type loop struct {
	run     Run
	sys     system
	log     *slog.Logger
	signals <-chan syscall.Signal
	// children says that some child may have ended. One word stands for many: all that have ended are taken.
	children <-chan os.Signal
	// orphaned is closed when the other one of our two processes is gone; nil where there is none.
	orphaned <-chan struct{}
	// parentGone is closed when the process that the user started us from is gone; nil where that does not matter.
	parentGone <-chan struct{}
	relayed    <-chan struct{}           // closed when the rest of the target's output is relayed; nil: not yet asked for
	broken     <-chan struct{}           // closed when nobody reads the target's terminal any more; nil where it has none
	ledger     appender                  // nil: nobody could read it
	history    *history                  // nil: nobody wants to know
	requests   <-chan registry.Call      // from within the tree
	exits      <-chan tree.Identity      // of those whom commands wait for
	awaited    map[tree.Identity][]int   // the commands that wait for a process
	unwatched  []tree.Identity           // those of them that have to be looked at
	said       answer                    // the last one
	envs       map[[sha256.Size]byte]int // which entry has an environment first

	began time.Time
	wake  *time.Timer // for the earliest of the run's deadlines and look

	killing bool                   // SIGKILL until the tree is empty
	killed  map[tree.Identity]kill // those found by the last pass
	look    time.Time              // when to look again whether the tree is empty; zero: when a child ends
	pause   time.Duration          // until then, growing while nothing moves
	givenUp []string               // those we have said to be left
	unseen  time.Time              // since when passes have found nobody though the tree is not empty

	stopAt time.Time // when to stop ourselves; zero: not

	stopHeard syscall.Signal // the first stop signal that came, whatever it was to this run
	unwritten bool           // it has been said that the ledger cannot be written
	watched   []tree.Process // cleanup commands that run and are not our children
	watchAt   time.Time      // when to look at those and at the unwatched again; zero: there are none
}

// stopAfter is how long a stop of ourselves waits for a SIGCONT that undoes it: one that came between its being
// decided on and SIGSTOP would be heard only when somebody sent another. It is long for a busy machine's sake.
const stopAfter = 100 * time.Millisecond

// kill is what we know of a process that was sent SIGKILL.
type kill struct {
	first time.Time
	name  string
}

// do leads the run from its start to its end.
func (l *loop) do() Run {
	if l.began.IsZero() {
		l.began = time.Now()
	}
	l.perform(startTarget{})
	return l.loop()
}

// loop leads the run from where it stands to its end.
func (l *loop) loop() Run {
	l.wake = time.NewTimer(time.Hour)
	l.wake.Stop()
	for l.run.State != Done {
		l.reapAll()
		if l.run.State == Done {
			break
		}
		l.seeStop()
		l.setWake()
		select {
		case sig := <-l.signals:
			l.reapAll() // what ended before the signal came did not end because of it
			l.hear(sig)
		case <-l.children:
		case <-l.orphaned:
			l.orphaned = nil
			l.log.Warn("stopping the run", "err", "the process of graceful that started this one is gone")
			l.reapAll()
			l.sys.frontGone(l.run.TargetPID)
			l.handle(orphaned{})
		case <-l.parentGone:
			l.parentGone = nil
			l.reapAll()
			if l.run.Stops == 0 { // who has told us to stop may well go
				l.log.Warn("stopping the run", "err", parentEnded)
				l.hear(unix.SIGTERM)
			}
		case <-l.relayed:
			l.relayed = nil
			l.handle(relayed{})
		case <-l.broken:
			l.broken = nil
			l.reapAll()
			l.hear(unix.SIGHUP)
		case call := <-l.requests:
			l.reapAll()
			l.request(call)
		case id := <-l.exits:
			l.reapAll()
			l.exited(id)
		case <-l.wake.C:
			l.reapAll()
			l.fire()
		}
	}
	if err := l.sys.writeReport(l.run, l.history); err != nil {
		l.log.Warn("the run is done, but", "err", err)
	}
	return l.run
}

func (l *loop) hear(sig syscall.Signal) {
	switch {
	case sig == unix.SIGCONT:
		l.stopAt = time.Time{}
		if !l.run.Ended {
			l.sys.continued(l.run.TargetPID)
		}
	case !l.run.Ended && l.sys.terminalWanted(l.run.TargetPID, sig):
		l.log.Info("received " + forward.Name(sig) + ", and took the terminal back")
		return
	case l.stopHeard == 0 && forward.MeaningOf(sig) == forward.Stop:
		l.stopHeard = sig
	}
	l.handle(signalled{int(sig), forward.MeaningOf(sig)})
}

// reapLimit bounds how many ends are taken in one turn, so that children that end faster than we can reap them keep
// us neither from signals and timers nor from killing them.
const reapLimit = 1000

// reapAll takes the children that have ended, and while the tree is being emptied looks whether it is.
//
// An exit is handled while the zombie still holds its pid, and only then reaped: the process group that a child
// of ours led can be signalled without meeting a stranger's.
func (l *loop) reapAll() {
	for n := 0; l.run.State != Done; n++ {
		pid, ending, childless := l.sys.peek()
		if pid != 0 && n < reapLimit {
			l.take(pid, ending)
			continue
		}
		if pid != 0 {
			if l.killing {
				l.sys.strike()
			}
			l.look = time.Now() // at the others
			return
		}
		l.watch()
		if !l.emptying() {
			return
		}
		if !l.sys.empty(childless) {
			l.killMore()
			return
		}
		l.killing, l.look, l.pause, l.unseen = false, time.Time{}, 0, time.Time{}
		l.handle(treeEmptied{})
	}
}

// take handles the end of a child and reaps it.
func (l *loop) take(pid int, ending Ending) {
	l.pause = 0
	switch id, isCommand := l.commandOf(pid); {
	case pid == l.run.TargetPID && !l.run.Ended:
		e := targetEnded{ending: ending, after: time.Since(l.began)}
		if l.history != nil {
			e.usage = l.sys.usage(pid)
		}
		l.handle(e)
	case isCommand:
		l.handle(commandEnded{id: id, ending: ending})
	default:
		if l.killing && ending.Signal == sigKILL && l.history.kills(l.run) {
			l.history.kill(l.sys.child(pid), l.run)
		}
		l.log.Info("reaped an orphan", "pid", pid, "status", ending.Status())
	}
	if len(l.awaited) > 0 {
		l.exited(l.sys.child(pid).Identity)
	}
	l.sys.reap(pid)
}

func (l *loop) emptying() bool {
	return l.run.State == Sweeping || l.run.State == Cleaning && l.run.Clearing || l.killing
}

// killMore kills what has been born since the last time, and settles when to look again: at once when a child
// ends, and after a pause that grows, since a process that dies elsewhere is not announced.
func (l *loop) killMore() {
	if l.killing && l.kill() {
		if left := l.leftover(); !slices.Equal(left, l.givenUp) { // after each cleanup command they are still there
			l.log.Warn("giving up on processes that SIGKILL does not end", "left", left)
			l.givenUp = left
		}
		l.history.leave(l.killed, l.run)
		l.killing, l.look = false, time.Time{}
		l.handle(treeEmptied{})
		return
	}
	if sig := l.run.Config.rewritten(sigTERM); sig != 0 && !l.killing && l.run.State == Sweeping && !l.run.waiting() {
		l.sys.signalOrphans(syscall.Signal(sig), unix.SIGCONT)
	}
	if l.killing || !l.sys.announced() {
		l.pause = min(max(2*l.pause, time.Millisecond), 100*time.Millisecond)
		l.look = time.Now().Add(l.pause)
	}
}

// kill makes one pass over the tree and tells whether all that is left is beyond our reach: another user's, or
// not gone long after SIGKILL.
func (l *loop) kill() (hopeless bool) {
	found, denied := l.sys.kill()
	for _, p := range found { // those of our children that have died already are not among them
		l.history.kill(p, l.run)
	}
	now := time.Now()
	forbidden := map[tree.Identity]bool{}
	for _, p := range denied {
		forbidden[p.Identity] = true
	}
	hopeless = l.run.Ended
	if len(found) > 0 {
		l.unseen = time.Time{}
	} else if l.unseen.IsZero() {
		l.unseen = now
	}
	if len(found) == 0 && now.Sub(l.unseen) < l.run.Config.patience() {
		hopeless = false
	}
	killed := map[tree.Identity]kill{}
	for _, p := range found {
		k, again := l.killed[p.Identity]
		if !again {
			k = kill{now, p.Name}
		}
		killed[p.Identity] = k
		if !forbidden[p.Identity] && now.Sub(k.first) < l.run.Config.patience() {
			hopeless = false
		}
	}
	l.killed = killed
	if len(found) > 0 {
		l.log.Info("sent SIGKILL", "to", l.leftover())
	}
	return hopeless
}

// leftover names those whom the last pass of SIGKILL found.
func (l *loop) leftover() []string {
	var names []string
	for id, k := range l.killed {
		names = append(names, fmt.Sprintf("%d (%s)", id.PID, k.name))
	}
	slices.Sort(names)
	return names
}

func (l *loop) commandOf(pid int) (id int, ok bool) {
	for _, id := range l.run.Cleanup.Active {
		if l.command(id).PID == pid {
			return id, true
		}
	}
	return 0, false
}

// handle lets the machine decide on an event, and performs what it wants.
func (l *loop) handle(e event) {
	was, escalated := l.run.State, l.run.Escalated
	l.tell(e)
	now := time.Now()
	r, todo := advance(l.run, e, now)
	if !l.reserve(e, r) {
		return
	}
	if err := l.record(e, r.moved(l.run), now); err != nil && l.takeBack(e, r, err) {
		return
	}
	l.history.happened(l.run, r, e, now)
	ended := r.Ended && !l.run.Ended
	l.run = r
	if ended {
		l.sys.targetGone(r)
	}
	if _, again := e.(signalled); again && r.Escalated && was < Cleaning && !escalated {
		l.log.Warn("sending SIGKILL", "err", "a stop signal came again")
	}
	if l.run.State != was {
		l.log.Info(l.run.State.String(), "was", was.String())
		if was < Cleaning && l.run.State >= Cleaning {
			l.sys.cleaning()
			l.disband()
		}
	}
	for _, a := range todo {
		l.perform(a)
	}
}

func (l *loop) disband() {
	if err := l.sys.disband(); err != nil {
		l.log.Warn("ending containment", "err", err)
	}
}

func (l *loop) perform(a action) {
	l.history.did(l.run, a, time.Now())
	switch a := a.(type) {
	case startTarget:
		l.startTarget()
	case forwardSignal:
		sig := syscall.Signal(a.signal)
		to, send := "group", l.sys.signalGroup
		switch {
		case a.alone:
			to, send = "target", l.sys.signalTarget
		case a.resume: // a stop signal
			send = l.sys.stopGroup
		}
		l.log.Info("forwarding", "signal", forward.Name(sig), to, l.run.TargetPID)
		if err := send(sig); err != nil {
			l.log.Warn("forwarding "+forward.Name(sig), "err", err)
		}
		switch {
		case a.resume && a.alone:
			_ = l.sys.signalTarget(unix.SIGCONT)
		case a.resume:
			_ = l.sys.signalGroup(unix.SIGCONT)
		}
	case suspend:
		l.stopAt = time.Now().Add(stopAfter)
	case signalSurvivors:
		signals, send := []syscall.Signal{syscall.Signal(a.signal)}, l.sys.signalSurvivors
		if a.resume {
			signals = append(signals, unix.SIGCONT)
		}
		if a.unasked {
			send = l.sys.signalUnasked
		}
		send(signals...)
	case keepSurvivors:
		l.sys.keepSurvivors()
	case killTree:
		if l.history.kills(l.run) { // before, since one that dies at once may be reaped by another that is dying
			for _, p := range l.sys.members() {
				l.history.kill(p, l.run)
			}
		}
		l.killing, l.pause = true, 0
		l.kill()
		l.look = time.Now()
	case relayRest:
		l.relayed = l.sys.relayRest(l.run, l.stopHeard != 0)
	case startCommand:
		l.startCommand(a.id)
	case terminateCommand:
		l.signalCommand(a.id, unix.SIGTERM)
		l.signalCommand(a.id, unix.SIGCONT)
	case killCommand:
		l.signalCommand(a.id, unix.SIGKILL)
	case answer:
		l.said = a
	default:
		panic(fmt.Sprintf("runner: the machine asked for %T, which nobody performs", a))
	}
}

func (l *loop) command(id int) cleanup.Entry {
	c, _ := l.run.Cleanup.Get(id)
	return c
}

// signalCommand signals a command's group; SIGKILL is for all that descends from it too.
func (l *loop) signalCommand(id int, sig syscall.Signal) {
	c := l.command(id)
	isIt := func(p tree.Process) bool { return p.PID == c.PID && p.Start == c.Start }
	switch {
	case slices.ContainsFunc(l.watched, isIt):
		l.sys.signalAll(tree.Identity{PID: c.PID, Start: c.Start}, sig)
	case sig == unix.SIGKILL:
		l.sys.killCommand(c.PID)
	default:
		l.sys.signalCommand(c.PID, sig)
	}
}

func (l *loop) startTarget() {
	pid, err := l.sys.startTarget(l.run)
	if err != nil {
		status, hint := startFailure(l.run.Config.Command[0], err)
		if found, ok := err.(*fs.PathError); ok {
			err = found.Err
		}
		l.log.Error("starting "+l.run.Config.Command[0], "err", err, "hint", hint)
		l.handle(targetFailed{status, err.Error()})
		return
	}
	l.handle(targetStarted{pid, l.startTime(pid)})
}

func (l *loop) startCommand(id int) {
	c := l.command(id)
	pid, err := l.sys.startCommand(l.run, c)
	if err != nil {
		l.handle(commandFailed{id, err.Error(), outOfResources(err)})
		return
	}
	if c.When == cleanup.AtExit && l.run.State < Cleaning {
		l.sys.exempt(pid)
	}
	l.handle(commandStarted{id, pid, l.startTime(pid)})
}

// startTime is wanted by whoever reads of the process later, and by nobody else.
func (l *loop) startTime(pid int) uint64 {
	if l.ledger == nil {
		return 0
	}
	return l.sys.child(pid).Start
}

// setWake sets the one timer to whatever comes first.
func (l *loop) setWake() {
	l.wake.Stop()
	first := l.look
	sooner := func(at time.Time) {
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	sooner(l.stopAt)
	sooner(l.watchAt)
	for _, d := range l.run.Deadlines {
		sooner(d.At)
	}
	if !first.IsZero() {
		l.wake.Reset(time.Until(first))
	}
}

// fire handles the deadlines that have come.
func (l *loop) fire() {
	now := time.Now()
	if !l.look.After(now) {
		l.look = time.Time{} // reapAll looks
	}
	for !l.stopAt.IsZero() && !l.stopAt.After(now) {
		select {
		case sig := <-l.signals: // it may be the SIGCONT that undoes the stop
			l.hear(sig)
		default:
			l.stopAt = time.Time{}
			if l.run.State < Killing { // afterwards there is nobody to be stopped with
				l.log.Info("stopping ourselves")
				l.sys.suspend()
			}
		}
	}
	for {
		i := slices.IndexFunc(l.run.Deadlines, func(d Deadline) bool { return !d.At.After(now) })
		if i < 0 {
			return
		}
		if due := l.run.Deadlines[i].timer; due.ID == 0 {
			l.handle(timeUp{due.Name})
		} else {
			l.handle(commandTimer{due.ID, due.Name})
		}
	}
}
