package runner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// announcer is the state for messages that the loop logs or sends once: what a long stop waits for, which processes got
// SIGKILL, and that the run is ending. It also contains the run times of commands, for messages about their time
// limits.
type announcer struct {
	nextMessage time.Time // time at which to log what the stop waits for; zero: no message is scheduled
	scheduled   bool      // the message was scheduled, and is not scheduled a second time
	endSent     bool      // the service manager knows that the run is ending
	killReason  string    // reason of a SIGKILL that is not logged yet; "": none

	startTimes map[int]time.Time     // by id, times at which this process learned of the starts of commands
	runTimes   map[int]time.Duration // by id, run times of these commands when their limit timers ended
}

func newAnnouncer() announcer {
	return announcer{startTimes: map[int]time.Time{}, runTimes: map[int]time.Duration{}}
}

const (
	// waitingMessageAfter is the time from the beginning of a stop until the loop logs what the stop waits for.
	waitingMessageAfter = 3 * time.Second
	// maxNamed is the maximum number of processes that a message about a stop names.
	maxNamed = 5
	// maxTitle is the maximum number of characters of a command in a message. An ellipsis replaces the others.
	maxTitle = 60
)

// schedule schedules the message about a long stop when the stop begins, or when graceful begins to stop survivors. It
// cancels the messages about the stop when cleanup begins.
func (a *announcer) schedule(r machine.Run, now time.Time) {
	switch stops := r.State == machine.Stopping || r.State == machine.Sweeping && r.Stop.Step > 0; {
	case r.State >= machine.Cleaning:
		a.nextMessage, a.killReason = time.Time{}, ""
	case stops && !a.scheduled:
		a.scheduled, a.nextMessage = true, now.Add(waitingMessageAfter)
	}
}

// named returns names and pids of the oldest members in all, at most maxNamed, and the number of the other members. If
// the run keeps survivors, only members of the target's process group count.
func (l *loop) named(all []procfs.Process) (names []string, more int) {
	if l.run.KeepsSurvivors() {
		all = slices.DeleteFunc(all, func(p procfs.Process) bool { return p.Group != l.run.Target.PID })
	}
	for len(all) > 0 && len(names) < maxNamed {
		oldest := slices.MinFunc(all, older)
		names = append(names, fmt.Sprintf("%s (%d)", oldest.Name, oldest.PID))
		all = slices.DeleteFunc(all, func(p procfs.Process) bool { return p.Identity == oldest.Identity })
	}
	return names, len(all)
}

// killReason returns the reason why an event has caused SIGKILL.
func (l *loop) killReason(e machine.Event) string {
	timer, isTimer := e.(machine.TimeUp)
	switch config := l.run.Config; {
	case !isTimer:
		return "a stop signal came again"
	case timer.Name == machine.DeadlineTimer && config.DeadlineFromOuter:
		return "the outer run allows no more time for the stop"
	case timer.Name == machine.DeadlineTimer:
		return fmt.Sprintf("the deadline of %v leaves no more time for the stop", config.Deadline)
	case len(config.Schedule) > 0:
		return "the stop schedule is over"
	default:
		return fmt.Sprintf("the grace of %v ran out", config.Grace)
	}
}

// logKilled logs the reason of a SIGKILL whose reason is not logged yet, and the members that were alive before that
// SIGKILL. With a grace of 0 and no schedule, the user has asked for SIGKILL at once, so the message is no warning.
func (l *loop) logKilled(members []procfs.Process) {
	reason := l.announcer.killReason
	if l.announcer.killReason = ""; reason == "" {
		return
	}
	log := l.log
	to, more := l.named(members)
	if more > 0 {
		log = log.With("more", more)
	}
	if config := l.run.Config; config.Grace == 0 && len(config.Schedule) == 0 {
		log.Info("sending SIGKILL", "err", reason, "to", to)
	} else {
		log.Warn("sending SIGKILL", "err", reason, "to", to)
	}
}

// logWaiting logs what the stop waits for and, if a timer limits the wait, the time that is left. It also tells the
// service manager what the stop waits for.
func (l *loop) logWaiting(now time.Time) {
	l.announcer.nextMessage = time.Time{}
	what, until, timer := l.awaited()
	at, ok := l.run.Due(timer)
	if timer.Name == machine.GraceTimer {
		for _, step := range l.run.Config.Steps()[l.run.Stop.Step:] {
			at = at.Add(step.Wait)
		}
		if end, bounded := l.run.Due(machine.Timer{Name: machine.DeadlineTimer}); bounded && end.Before(at) {
			at = end
		}
	}
	log, left := l.log, at.Sub(now).Round(time.Second)
	if ok && left <= 0 {
		return // the next step is about to be logged
	}
	status := fmt.Sprintf("STATUS=waiting for %s: %s", what, until)
	if ok {
		log, status = log.With("left", left), fmt.Sprintf("STATUS=waiting for %s until %s", what, until)
	}
	l.sys.notifyManager(status)
	log.Warn("waiting", "for", what, "until", until)
}

// title returns the name of a command, or the text of the command if it has no name. The result is cut to maxTitle.
func title(c cleanup.Entry) string {
	what := cmp.Or(c.Name, c.Command.Text)
	if runes := []rune(what); len(runes) > maxTitle {
		what = string(runes[:maxTitle]) + "…"
	}
	return what
}

// awaited returns what the stop waits for. until is the step of the stop that ends the wait, and timer determines when
// that step begins at the latest. After SIGKILL there is no further step, and timer does not run.
func (l *loop) awaited() (what, until string, timer machine.Timer) {
	switch r := l.run; {
	case r.State == machine.Stopping && r.Stop.Phase == machine.PhaseOnStop:
		for _, id := range r.Cleanup.Running(cleanup.AtStop) {
			what, timer.ID = title(l.command(id)), id
		}
		timer.Name = machine.LimitTimer
		return "on-stop command " + what, "SIGTERM to it", timer
	case r.State == machine.Stopping && r.Stop.Phase == machine.PhaseDrain:
		return "the drain", "the stop signal", machine.Timer{Name: machine.DrainTimer}
	}
	names, more := l.named(l.sys.Members())
	if what = cmp.Or(strings.Join(names, ", "), "the tree"); more > 0 {
		what += fmt.Sprintf(" and %d more", more)
	}
	if l.run.Stop.Escalated {
		return what, "SIGKILL was sent", machine.Timer{Name: machine.AbandonTimer}
	}
	return what, "SIGKILL", machine.Timer{Name: machine.GraceTimer}
}
