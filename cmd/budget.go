package cmd

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
)

// summand is one part of the time of a stop.
type summand struct {
	time time.Duration
	text string // for people, with the source of the time: "2 x 5s for on-exit commands (--on-exit-timeout)"
}

// budget contains the maximum time of a stop, and the parts of that time: the times that flags and variables set, and
// the limits of the cleanup commands.
type budget struct {
	deadline     time.Duration
	source       string    // name of the flag or variable that sets the deadline
	beforeSignal []summand // before the first signal: on-stop commands, if their limit is given, and drain
	signals      []summand // the grace or the schedule, if given
	onExit       []summand // limits of the cleanup commands, given or default
}

// budget collects the times that limit a stop. given maps each flag that was set to its source (see readVariables).
func (f *runFlags) budget(given map[string]string) budget {
	from := func(flag string) string { return cmp.Or(given[flag], "the default of --"+flag) }
	part := func(limit time.Duration, what, flag string) summand {
		return summand{limit, fmt.Sprintf("%v of %s (%s)", limit, what, from(flag))}
	}
	b := budget{
		deadline: f.Deadline,
		source:   given["deadline"],
		onExit:   commandTime(len(f.OnExit), f.OnExitLimit, f.Order == cleanup.Parallel, "on-exit", from("on-exit-timeout")),
	}
	if given["on-stop-timeout"] != "" {
		b.beforeSignal = commandTime(len(f.OnStop), f.onStopLimit, false, "on-stop", from("on-stop-timeout"))
	}
	if f.Drain > 0 {
		b.beforeSignal = append(b.beforeSignal, part(f.Drain, "drain", "drain"))
	}
	switch {
	case len(f.Schedule) > 0:
		sum := time.Duration(0)
		for _, step := range f.Schedule {
			sum = machine.AddDurations(sum, step.Wait)
		}
		b.signals = []summand{part(sum, "schedule", "stop-schedule")}
	case given["grace"] != "":
		b.signals = []summand{part(f.Grace, "grace", "grace")}
	}
	return b
}

// commandTime returns the maximum total time of n commands that run in sequence or in parallel, as one summand, or nil
// if n is 0. Each command takes at most limit. what is the kind of the commands, and from is the source of the limit.
func commandTime(n int, limit time.Duration, parallel bool, what, from string) []summand {
	sum, text := limit, fmt.Sprintf("%v for an %s command", limit, what)
	switch {
	case n == 0:
		return nil
	case n > 1 && parallel:
		text = fmt.Sprintf("%v for %d %s commands at once", limit, n, what)
	case n > 1:
		text = fmt.Sprintf("%d x %v for %s commands", n, limit, what)
		for range n - 1 {
			sum = machine.AddDurations(sum, limit)
		}
	}
	return []summand{{sum, text + " (" + from + ")"}}
}

// fit returns the time from the beginning of a stop until SIGKILL. The rest of the deadline is for the cleanup commands
// and for graceful itself. If the parts of the budget do not fit into the deadline, or leave no time for the target,
// the error lists them.
func (b budget) fit() (time.Duration, error) {
	all := slices.Concat(b.beforeSignal, b.signals, b.onExit)
	if total(all) > b.deadline {
		return 0, fmt.Errorf("%s: a stop takes longer than %v: %s", b.source, b.deadline, addition(all))
	}
	left := machine.TimeBeforeCleanup(b.deadline, total(b.onExit))
	if left-total(b.beforeSignal) <= 0 {
		reserve := machine.OwnTime(b.deadline)
		own := summand{reserve, reserve.String() + " for graceful itself"}
		return 0, fmt.Errorf("%s: %v leaves no time for the target: %s",
			b.source, b.deadline, addition(slices.Concat(b.beforeSignal, b.onExit, []summand{own})))
	}
	return left, nil
}

func total(parts []summand) (sum time.Duration) {
	for _, p := range parts {
		sum = machine.AddDurations(sum, p.time)
	}
	return sum
}

// addition returns a text such as "2s of grace (--grace) + 1s of drain (--drain) = 3s".
func addition(parts []summand) string {
	texts := convert(parts, func(p summand) string { return p.text })
	return fmt.Sprintf("%s = %v", strings.Join(texts, " + "), total(parts))
}
