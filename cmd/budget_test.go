package cmd

import (
	"fmt"
	"math"
	"testing"
	"time"
)

const s = time.Second

// onExitTime returns the total time of n on-exit commands.
func onExitTime(n int, limit time.Duration, parallel bool) []summand {
	return commandTime(n, limit, parallel, "on-exit", "--on-exit-timeout")
}

// onStopTime returns the total time of n on-stop commands.
func onStopTime(n int, limit time.Duration) []summand {
	return commandTime(n, limit, false, "on-stop", "--on-stop-timeout")
}

// part returns a time as one summand. from is the flag or variable that sets the time.
func part(d time.Duration, from string) []summand {
	return []summand{{d, d.String() + " of it (" + from + ")"}}
}

var budgetTests = []struct {
	budget
	left time.Duration
	err  string
}{
	{budget: budget{deadline: 10 * s}, left: 9 * s},
	{budget: budget{deadline: 4 * s}, left: 3600 * time.Millisecond},
	{budget: budget{deadline: 60 * s}, left: 59 * s},
	{budget: budget{deadline: 10 * s, onExit: onExitTime(1, 3*s, false)}, left: 6 * s},
	{budget: budget{deadline: 10 * s, onExit: onExitTime(3, 2*s, false)}, left: 3 * s},
	{budget: budget{deadline: 10 * s, onExit: onExitTime(3, 2*s, true)}, left: 7 * s},
	{budget: budget{deadline: 10 * s, signals: part(10*s, "--grace")}, left: 9 * s}, // just fits
	{
		budget: budget{
			deadline: 10 * s, beforeSignal: append(onStopTime(2, 2*s), part(2*s, "--drain")...),
			onExit: onExitTime(1, 2*s, false)},
		left: 7 * s,
	},
	{
		budget: budget{
			deadline: 10 * s, beforeSignal: append(onStopTime(2, 2*s), part(2*s, "--drain")...),
			signals: part(2*s, "--grace"), onExit: onExitTime(1, 2*s, false)},
		left: 7 * s,
	},
	{
		budget: budget{
			deadline: 10 * s, beforeSignal: append(onStopTime(2, 2*s), part(2*s, "GRACEFUL_DRAIN")...),
			signals: part(2500*time.Millisecond, "--grace"), onExit: onExitTime(1, 2*s, false)},
		err: "--deadline: a stop takes longer than 10s: 2 x 2s for on-stop commands (--on-stop-timeout) + " +
			"2s of it (GRACEFUL_DRAIN) + 2.5s of it (--grace) + " +
			"2s for an on-exit command (--on-exit-timeout) = 10.5s",
	},
	{
		budget: budget{deadline: 10 * s, onExit: onExitTime(2, 5*s, false)},
		err: "--deadline: 10s leaves no time for the target: " +
			"2 x 5s for on-exit commands (--on-exit-timeout) + 1s for graceful itself = 11s",
	},
	{
		budget: budget{deadline: 10 * s, onExit: onExitTime(2, 9*s, true)},
		err: "--deadline: 10s leaves no time for the target: " +
			"9s for 2 on-exit commands at once (--on-exit-timeout) + 1s for graceful itself = 10s",
	},
	{
		budget: budget{deadline: 10 * s, beforeSignal: onStopTime(1, 9*s)},
		err: "--deadline: 10s leaves no time for the target: " +
			"9s for an on-stop command (--on-stop-timeout) + 1s for graceful itself = 10s",
	},
	{budget: budget{deadline: 10 * s, beforeSignal: onStopTime(1, 9*s-1)}, left: 9 * s},
	{
		budget: budget{deadline: 10 * s, onExit: onExitTime(3, math.MaxInt64/2, false)}, // does not overflow
		err: "--deadline: a stop takes longer than 10s: " +
			"3 x 1281023h53m38.427387903s for on-exit commands (--on-exit-timeout) = 2562047h47m16.854775807s",
	},
}

// The target gets the deadline minus the time for cleanup and for graceful itself. If no time is left, the error lists
// the parts of the sum.
func TestBudgetFit(t *testing.T) {
	for _, c := range budgetTests {
		c.source = "--deadline"
		left, err := c.fit()
		if left != c.left || fmt.Sprint(err) != c.err && (err != nil || c.err != "") {
			t.Errorf("%+v\nleaves %v, %v\nwant   %v, %s", c.budget, left, err, c.left, c.err)
		}
	}
}
