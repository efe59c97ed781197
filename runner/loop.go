package runner

import (
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"graceful/cleanup/registry"
	"graceful/forward"
	"graceful/runner/machine"
	"graceful/runner/procfs"

	"golang.org/x/sys/unix"
)

// loop performs what the machine decides. One goroutine does all of it.
type loop struct {
	run    Run
	sys    system
	log    *slog.Logger
	in     inputs
	record recorder
	sweep  sweeper
	waits  watcher
	reg    registrar

	began     time.Time
	wake      *time.Timer    // for the earliest of all that is due
	suspendAt time.Time      // when to suspend graceful; zero: not
	stopHeard syscall.Signal // the first stop signal that was received, whatever it meant to this run
}

// inputs are what the loop waits for. A nil channel is never ready.
type inputs struct {
	signals    <-chan syscall.Signal
	children   <-chan os.Signal       // a child may have ended; one value stands for many ends
	orphaned   <-chan struct{}        // closed when graceful's other process has ended
	parentGone <-chan struct{}        // closed when the process that started graceful has ended
	relayed    <-chan struct{}        // closed when the rest of the target's output is relayed
	broken     <-chan struct{}        // closed when the terminal of the target's own has no reader any more
	requests   <-chan registry.Call   // from processes of the tree
	exits      <-chan procfs.Identity // of processes that commands wait for
}

// suspendAfter is how long suspending graceful waits for a SIGCONT that undoes it. A SIGCONT between the decision and SIGSTOP
// would have no effect. It is long for the sake of a busy machine.
const suspendAfter = 100 * time.Millisecond

// start leads the run from its start to its end.
func (l *loop) start() Run {
	if l.began.IsZero() {
		l.began = time.Now()
	}
	l.perform(machine.StartTarget{})
	return l.lead()
}

// lead leads the run from where it stands to its end.
func (l *loop) lead() Run {
	l.wake = time.NewTimer(time.Hour)
	l.wake.Stop()
	for l.run.State != machine.Done {
		l.reapAll()
		if l.run.State == machine.Done {
			break
		}
		l.seeSuspension()
		l.setWake()
		select {
		case sig := <-l.in.signals:
			l.reapAll() // what ended before the signal did not end because of it
			l.hear(sig)
		case <-l.in.children:
		case <-l.in.orphaned:
			l.in.orphaned = nil
			l.log.Warn("stopping the run", "err", "the process of graceful that started this one is gone")
			l.reapAll()
			l.sys.frontGone(l.run.Target.PID)
			l.handle(machine.Orphaned{})
		case <-l.in.parentGone:
			l.in.parentGone = nil
			l.reapAll()
			if l.run.Stop.Count == 0 { // a parent that has asked for the stop may end
				l.log.Warn("stopping the run", "err", parentEnded)
				l.hear(unix.SIGTERM)
			}
		case <-l.in.relayed:
			l.in.relayed = nil
			l.handle(machine.Relayed{})
		case <-l.in.broken:
			l.in.broken = nil
			l.reapAll()
			l.hear(unix.SIGHUP)
		case call := <-l.in.requests:
			l.reapAll()
			l.request(call)
		case id := <-l.in.exits:
			l.reapAll()
			l.exited(id)
		case <-l.wake.C:
			l.reapAll()
			l.fire()
		}
	}
	if err := l.sys.writeReport(l.run, l.record.history); err != nil {
		l.log.Warn("the run is done, but", "err", err)
	}
	return l.run
}

func (l *loop) hear(sig syscall.Signal) {
	switch {
	case sig == unix.SIGCONT:
		l.suspendAt = time.Time{}
		if !l.run.Target.Ended {
			l.sys.continued(l.run.Target.PID)
		}
	case !l.run.Target.Ended && l.sys.terminalWanted(l.run.Target.PID, sig):
		l.log.Info("received " + forward.Name(sig) + ", and took the terminal back")
		return
	case l.stopHeard == 0 && forward.MeaningOf(sig) == forward.Stop:
		l.stopHeard = sig
	}
	l.handle(machine.Signalled{Signal: int(sig), Meaning: forward.MeaningOf(sig)})
}

// reapLimit bounds the ends that are taken in one turn, so that children which end faster than they can be reaped delay
// neither signals nor timers nor SIGKILL.
const reapLimit = 1000

// reapAll handles the children that have ended. While the tree is being emptied it looks whether it is empty.
//
// A child is reaped after its end was handled: as long as the zombie holds its pid, no other process group can have the number
// of the group that it led.
func (l *loop) reapAll() {
	for n := 0; l.run.State != machine.Done; n++ {
		pid, ending, childless := l.sys.peek()
		if pid != 0 && n < reapLimit {
			l.take(pid, ending)
			continue
		}
		if pid != 0 {
			if l.sweep.killing {
				l.sys.KillChildren()
			}
			l.sweep.look = time.Now() // for the rest
			return
		}
		l.watch()
		if !l.emptying() {
			return
		}
		if !l.sys.Empty(childless) {
			l.killMore()
			return
		}
		l.sweep.stop()
		l.handle(machine.TreeEmptied{})
	}
}

// take handles the end of a child, and reaps it.
func (l *loop) take(pid int, ending machine.Ending) {
	l.sweep.pause = 0
	switch id, isCommand := l.commandOf(pid); {
	case pid == l.run.Target.PID && !l.run.Target.Ended:
		e := machine.TargetEnded{Ending: ending, After: time.Since(l.began)}
		if l.record.history != nil {
			e.Usage = l.sys.usage(pid)
		}
		l.handle(e)
	case isCommand:
		l.handle(machine.CommandEnded{ID: id, Ending: ending})
	default:
		if l.sweep.killing && ending.Signal == machine.SigKILL && l.record.history.Kills(l.run.Run) {
			l.record.history.Kill(l.sys.Child(pid), l.run.Run)
		}
		l.log.Info("reaped an orphan", "pid", pid, "status", ending.Status())
	}
	if len(l.waits.awaited) > 0 {
		l.exited(l.sys.Child(pid).Identity)
	}
	l.sys.reap(pid)
}

func (l *loop) commandOf(pid int) (id int, ok bool) {
	for _, id := range l.run.Cleanup.Active {
		if l.command(id).PID == pid {
			return id, true
		}
	}
	return 0, false
}

// handle lets the machine decide on an event, and performs the actions.
func (l *loop) handle(e machine.Event) {
	was, escalated := l.run.State, l.run.Stop.Escalated
	l.logEvent(e)
	now := time.Now()
	r, todo := l.run.advanced(e, now)
	if !l.reserve(e, r) {
		return
	}
	if err := l.record.event(e, r.Changed(l.run.Run), now, l.log); err != nil && l.takeBack(e, r, err) {
		return
	}
	l.record.history.Happened(l.run.Run, r.Run, e, now)
	ended := r.Target.Ended && !l.run.Target.Ended
	l.run = r
	if ended {
		l.sys.targetGone(r)
	}
	if _, again := e.(machine.Signalled); again && r.Stop.Escalated && was < machine.Cleaning && !escalated {
		l.log.Warn("sending SIGKILL", "err", "a stop signal came again")
	}
	if l.run.State != was {
		l.log.Info(l.run.State.String(), "was", was.String())
		if was < machine.Cleaning && l.run.State >= machine.Cleaning {
			l.sys.cleaning()
			l.disband()
		}
	}
	for _, a := range todo {
		l.perform(a)
	}
}

// setWake sets the timer to what is due first.
func (l *loop) setWake() {
	l.wake.Stop()
	first := l.sweep.look
	sooner := func(at time.Time) {
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	sooner(l.suspendAt)
	sooner(l.waits.at)
	for _, d := range l.run.Deadlines {
		sooner(d.At)
	}
	if !first.IsZero() {
		l.wake.Reset(time.Until(first))
	}
}

// fire handles what is due.
func (l *loop) fire() {
	now := time.Now()
	if !l.sweep.look.After(now) {
		l.sweep.look = time.Time{} // reapAll looks
	}
	for !l.suspendAt.IsZero() && !l.suspendAt.After(now) {
		select {
		case sig := <-l.in.signals: // perhaps the SIGCONT that undoes it
			l.hear(sig)
		default:
			l.suspendAt = time.Time{}
			if l.run.State < machine.Killing { // later there is no target that is suspended, too
				l.log.Info("suspending graceful")
				l.sys.suspend()
			}
		}
	}
	for {
		i := slices.IndexFunc(l.run.Deadlines, func(d machine.Deadline) bool { return !d.At.After(now) })
		if i < 0 {
			return
		}
		if due := l.run.Deadlines[i].Timer; due.ID == 0 {
			l.handle(machine.TimeUp{Name: due.Name})
		} else {
			l.handle(machine.CommandTimer{ID: due.ID, Name: due.Name})
		}
	}
}
