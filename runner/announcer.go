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

// announcer is the state of the messages about a stop at the default log level. The loop logs once what a long stop
// waits for, and which processes got SIGKILL.
type announcer struct {
	nextMessage time.Time // time at which to log what the stop waits for; zero: never
	scheduled   bool
	endSent     bool   // the service manager knows that the run is ending
	killReason  string // reason of a SIGKILL that is not logged yet; "": none

	startTimes map[int]time.Time     // start times of the commands
	runTimes   map[int]time.Duration // run times of the commands when their time limit was over
}

func newAnnouncer() announcer {
	return announcer{startTimes: map[int]time.Time{}, runTimes: map[int]time.Duration{}}
}

const (
	// waitingMessageAfter is the time after which the loop logs what a stop waits for.
	waitingMessageAfter = 3 * time.Second
	// maxNamed is the maximum number of processes in a message.
	maxNamed = 5
	// maxTitle is the maximum length of a command in a message, in characters.
	maxTitle = 60
)

// schedule schedules the message about a long stop, and cancels it when the stop is over.
func (a *announcer) schedule(r machine.Run, now time.Time) {
	switch stops := r.State == machine.Stopping || r.State == machine.Sweeping && r.Stop.Step > 0; {
	case r.State >= machine.Cleaning:
		a.nextMessage, a.killReason = time.Time{}, ""
	case stops && !a.scheduled:
		a.scheduled, a.nextMessage = true, now.Add(waitingMessageAfter)
	}
}

// named returns names and pids of up to maxNamed members that a stop waits for, and the number of further members.
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

// logKilled logs the processes that got SIGKILL, and the reason. If the grace is 0, the user has asked for SIGKILL, and
// logKilled logs no warning.
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

// logWaiting logs what a stop waits for, and the time that is left.
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
	if ok {
		log = log.With("left", left)
	}
	l.sys.notifyManager(fmt.Sprintf("STATUS=waiting for %s until %s", what, until))
	log.Warn("waiting", "for", what, "until", until)
}

// title returns the name of a command, or the beginning of its text if the command has no name.
func title(c cleanup.Entry) string {
	what := cmp.Or(c.Name, c.Command.Text)
	if runes := []rune(what); len(runes) > maxTitle {
		what = string(runes[:maxTitle]) + "…"
	}
	return what
}

// awaited returns what a stop waits for, what will happen when the time is over, and the timer for that time.
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
