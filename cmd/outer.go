package cmd

import (
	"fmt"
	"os"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
)

// outerBudget contains the time that an outer run allows for a stop, and the explicit times that exceed it.
type outerBudget struct {
	budget       time.Duration
	tooLongTimes []string // flag or variable and value: "--grace 2s"
}

// fitIntoOuter sets a deadline that fits into the budget of an outer run, because a nested run must end before the
// outer run kills it. The outer run puts that budget into the variable machine.StopBudget. fromOuter is false if there
// is no such budget, if variables are ignored, or if the run has a deadline that is not longer.
//
// fitIntoOuter also shortens the drain, the limit of the on-stop commands and the grace. The schedule and the limits of
// the cleanup commands stay as they are, because the deadline cuts them short. Each of these times, and the deadline,
// goes into tooLongTimes for a warning if it is explicit and too long.
func (f *runFlags) fitIntoOuter(given map[string]string) (fromOuter bool, err error) {
	text := os.Getenv(machine.StopBudget)
	if text == "" || f.variablesIgnored {
		return false, nil
	}
	budget, err := parseTime(text)
	if err != nil {
		return false, fmt.Errorf("%s: %w", machine.StopBudget, err)
	}
	deadline := budget - machine.OwnTime(budget)
	if deadline <= 0 || f.Deadline > 0 && f.Deadline <= deadline {
		return false, nil
	}
	f.outer.budget = budget
	tooLong := func(flag string, value time.Duration) {
		if given[flag] != "" {
			f.outer.tooLongTimes = append(f.outer.tooLongTimes, fmt.Sprintf("%s %v", given[flag], value))
		}
	}
	if f.Deadline > 0 {
		tooLong("deadline", f.Deadline)
	}
	f.Deadline, f.DeadlineFromOuter = deadline, true
	if n := len(f.OnExit); n > 0 {
		if sum := total(commandTime(n, f.OnExitLimit, f.Order == cleanup.Parallel, "", "")); sum > deadline/2 {
			tooLong("on-exit-timeout", f.OnExitLimit)
		}
	}
	for i := range f.OnExit {
		f.OnExit[i].Limit = f.OnExitLimit
	}
	left := f.StoppingTime()
	if f.Drain > left/2 {
		tooLong("drain", f.Drain)
		f.Drain = left / 2
	}
	if n := time.Duration(len(f.OnStop)); n > 0 {
		if limit := max((left-f.Drain)/2/n, 1); limit < f.onStopLimit {
			tooLong("on-stop-timeout", f.onStopLimit)
			f.onStopLimit = limit
		}
	}
	switch signals := left - f.Drain; {
	case len(f.Schedule) > 0:
		sum := time.Duration(0)
		for _, step := range f.Schedule {
			sum = machine.AddDurations(sum, step.Wait)
		}
		if sum > signals {
			tooLong("stop-schedule", sum)
		}
	case f.Grace > signals:
		tooLong("grace", f.Grace)
		f.Grace = signals
	}
	return true, nil
}
