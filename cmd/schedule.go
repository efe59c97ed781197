package cmd

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/forward"
	"graceful/runner/machine"
)

const scheduleExample = "TERM/10s/INT/5s/KILL"

// scheduleValue returns the value of a flag that accepts the schedule of a stop. A schedule consists of signals and the
// waits after them, in the syntax of start-stop-daemon's --retry.
func scheduleValue(value *[]machine.Step) flagValue[[]machine.Step] {
	read := func(s string) ([]machine.Step, error) {
		steps, err := parseSchedule(s)
		if err != nil {
			err = fmt.Errorf("%q: %w", s, err)
		}
		return steps, err
	}
	return flagValue[[]machine.Step]{value, "SCHEDULE", read, nil, completeSchedule}
}

// parseSchedule reads a schedule. It returns no step for KILL, since SIGKILL ends every schedule, and ignores a time
// after KILL. If a schedule begins with KILL or a time before other items, the first step has the signal NoSignal.
func parseSchedule(s string) (steps []machine.Step, err error) {
	if s == "" {
		return nil, fmt.Errorf("it is empty (%s)", scheduleExample)
	}
	items := strings.Split(s, "/")
	hasKill, hasTimeAfterKill := false, false
	for i, item := range items {
		sig, wait, err := scheduleItem(item)
		switch {
		case err != nil:
			return nil, err
		case hasKill && (sig != 0 || hasTimeAfterKill):
			return nil, errors.New("only one time may follow KILL: no process is left to stop")
		case hasKill:
			hasTimeAfterKill = true
		case sig == unix.SIGKILL:
			if hasKill = true; len(steps) == 0 {
				steps = append(steps, machine.Step{Signal: machine.NoSignal})
			}
		case sig != 0 || len(items) == 1:
			steps = append(steps, machine.Step{Signal: int(sig), Wait: wait})
		case i == 0:
			steps = append(steps, machine.Step{Signal: machine.NoSignal, Wait: wait})
		default:
			last := &steps[len(steps)-1]
			last.Wait = machine.AddDurations(last.Wait, wait)
		}
	}
	return steps, nil
}

// scheduleItem reads one item of a schedule. It returns either a signal and no wait, or 0 and a wait. A number without
// a dash is a time.
func scheduleItem(item string) (sig syscall.Signal, wait time.Duration, err error) {
	name, dashed := strings.CutPrefix(item, "-")
	switch {
	case item == "":
		return 0, 0, fmt.Errorf("an item before or after a slash is empty (%s)", scheduleExample)
	case strings.EqualFold(item, "forever"):
		return 0, 0, errors.New(`"forever" is refused: a stop must end; give a time`)
	}
	if wait, err := parseTime(item); err == nil && !dashed {
		return 0, wait, nil
	}
	if sig, err = forward.Parse(name); err == nil {
		if sig == unix.SIGSTOP {
			return 0, 0, errors.New("STOP does not end a process: it suspends it")
		}
		return sig, 0, nil
	}
	hint := suggestSignal(name)
	if near := suggestTime(item); near != "" {
		hint = " (did you mean " + near + "?)"
	}
	return 0, 0, fmt.Errorf("%q is neither a signal nor a time%s", item, hint)
}
