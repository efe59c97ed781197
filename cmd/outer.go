package cmd

import (
	"fmt"
	"os"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
)

// A nested run must end before the outer run kills it. The outer run puts the maximum time of a stop into a variable.
// The nested run derives its deadline from that time. If default times are too long, it shortens them silently. If
// explicit times are too long, it shortens them and logs a warning.

// outerBudget contains the time that the outer run allows for a stop, and the times that exceed it.
type outerBudget struct {
	budget       time.Duration
	tooLongTimes []string // explicit times that do not fit: "--grace 2s"
}

// fitIntoOuter sets a deadline that fits into the budget of an outer run. fits is false if there is no such budget, or
// if the run already has a shorter deadline.
func (f *runFlags) fitIntoOuter(given map[string]string) (fits bool, err error) {
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
