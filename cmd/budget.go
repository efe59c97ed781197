package cmd

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"graceful/cleanup"
)

// summand is one part of the time that a stop takes.
type summand struct {
	time time.Duration
	what string // "2 x 5s for on-exit commands"
	from string // the flag or variable that sets it; "": neither does
}

// budget is the time that a stop may take, and the parts of it that were given.
type budget struct {
	deadline time.Duration
	from     string // the flag or variable that sets the deadline
	onStop   []summand
	drain    []summand
	signals  []summand // the grace or the schedule, if given
	onExit   []summand
}

// budget collects what the flags and variables in given say about the time that a stop takes.
func (f *runFlags) budget(given map[string]string) budget {
	c := f.config
	from := func(flag string) string {
		if given[flag] != "" {
			return given[flag]
		}
		return "the default of --" + flag
	}
	parallel := c.Order == cleanup.Parallel
	b := budget{
		deadline: c.Deadline,
		from:     given["deadline"],
		onExit:   commandTime(len(c.OnExit), f.onExitLimit, parallel, "on-exit", from("on-exit-timeout")),
	}
	if given["on-stop-timeout"] != "" {
		b.onStop = commandTime(len(c.OnStop), f.onStopLimit, false, "on-stop", from("on-stop-timeout"))
	}
	if c.Drain > 0 {
		b.drain = []summand{{c.Drain, c.Drain.String() + " of drain", from("drain")}}
	}
	switch {
	case len(c.Schedule) > 0:
		sum := time.Duration(0)
		for _, step := range c.Schedule {
			sum = saturatingAdd(sum, step.Wait)
		}
		b.signals = []summand{{sum, sum.String() + " of schedule", from("stop-schedule")}}
	case given["grace"] != "":
		b.signals = []summand{{c.Grace, c.Grace.String() + " of grace", from("grace")}}
	}
	return b
}

// commandTime returns the time that n commands may take, each up to limit, one after the other or in parallel.
func commandTime(n int, limit time.Duration, parallel bool, what, from string) []summand {
	switch {
	case n == 0:
		return nil
	case n == 1:
		return []summand{{limit, fmt.Sprintf("%v for an %s command", limit, what), from}}
	case parallel:
		return []summand{{limit, fmt.Sprintf("%v for %d %s commands at once", limit, n, what), from}}
	}
	sum := limit
	for range n - 1 {
		sum = saturatingAdd(sum, limit)
	}
	return []summand{{sum, fmt.Sprintf("%d x %v for %s commands", n, limit, what), from}}
}

// fit returns the time from the beginning of a stop until SIGKILL that leaves the cleanup commands their time before
// the deadline. If the parts do not fit, the error names each of them.
func (b budget) fit() (time.Duration, error) {
	reserve := min(b.deadline/10, time.Second)
	before := slices.Concat(b.onStop, b.drain)
	all := slices.Concat(before, b.signals, b.onExit)
	if sum := total(all); sum > b.deadline {
		return 0, fmt.Errorf("%s: a stop takes longer than %v: %s = %v",
			b.from, b.deadline, listSummands(all), sum)
	}
	left := b.deadline - total(b.onExit) - reserve
	if left-total(before) <= 0 {
		own := summand{time: reserve, what: reserve.String() + " for graceful itself"}
		rest := slices.Concat(before, b.onExit, []summand{own})
		return 0, fmt.Errorf("%s: nothing of %v is left for the target: %s = %v",
			b.from, b.deadline, listSummands(rest), total(rest))
	}
	return left, nil
}

func total(parts []summand) (sum time.Duration) {
	for _, p := range parts {
		sum = saturatingAdd(sum, p.time)
	}
	return sum
}

// saturatingAdd adds times that are not negative. A sum that overflows becomes the longest time.
func saturatingAdd(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func listSummands(parts []summand) string {
	var words []string
	for _, p := range parts {
		if p.from != "" {
			p.what += " (" + p.from + ")"
		}
		words = append(words, p.what)
	}
	return strings.Join(words, " + ")
}
