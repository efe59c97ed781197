package cmd

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"graceful/forward"
	"graceful/runner"

	"golang.org/x/sys/unix"
)

// parseSignal reads a signal; a mistake is answered with the nearest one.
func parseSignal(s string) (syscall.Signal, error) {
	sig, err := forward.Parse(s)
	if err != nil {
		return 0, fmt.Errorf("%w%s", err, nearSignal(s))
	}
	return sig, nil
}

func nearSignal(s string) string {
	return didYouMean(strings.TrimPrefix(strings.ToUpper(s), "SIG"), "", forward.Names())
}

// eachPair splits a list of FROM=TO, with commas or blanks between them.
func eachPair(s, example string, take func(from, to string) error) error {
	list := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
	if len(list) == 0 {
		return fmt.Errorf("it is empty (%s)", example)
	}
	for _, pair := range list {
		from, to, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%q is no FROM=TO (%s)", pair, example)
		}
		if err := take(from, to); err != nil {
			return fmt.Errorf("%q: %w", pair, err)
		}
	}
	return nil
}

// rewriteValue collects what signals are passed on as.
type rewriteValue struct{ value *map[int]int }

func (v rewriteValue) Set(s string) error {
	return eachPair(s, "TERM=QUIT, or HUP=0 to drop it", func(from, to string) error {
		heard, err := parseSignal(from)
		if err != nil {
			return err
		}
		switch forward.MeaningOf(heard) {
		case forward.Ours:
			return fmt.Errorf("%s is graceful's own and never passed on", forward.Name(heard))
		case forward.Uncatchable:
			return fmt.Errorf("%s cannot be caught", forward.Name(heard))
		}
		sent := syscall.Signal(0)
		if to != "0" && !strings.EqualFold(to, "none") {
			if sent, err = parseSignal(to); err != nil {
				return err
			}
		}
		return addTo(v.value, int(heard), int(sent), forward.Name(heard))
	})
}

// addTo adds a pair to a map that may not be there yet. What is asked for twice has two meanings.
func addTo(m *map[int]int, from, to int, name string) error {
	if _, twice := (*m)[from]; twice {
		return fmt.Errorf("%s has been given before", name)
	}
	if *m == nil {
		*m = map[int]int{}
	}
	(*m)[from] = to
	return nil
}

func (v rewriteValue) String() string { return "" }
func (v rewriteValue) Type() string   { return "FROM=TO" }

// remapValue collects exit statuses that are changed.
type remapValue struct{ value *map[int]int }

func (v remapValue) Set(s string) error {
	return eachPair(s, "143=0", func(from, to string) error {
		was, err := exitStatus(from)
		if err != nil {
			return err
		}
		is, err := exitStatus(to)
		if err != nil {
			return err
		}
		return addTo(v.value, was, is, strconv.Itoa(was))
	})
}

func exitStatus(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%q is no exit status (0 to 255)", s)
	}
	return int(n), nil
}

func (v remapValue) String() string { return "" }
func (v remapValue) Type() string   { return "FROM=TO" }

// scheduleValue is the signals of a stop and the waits between them, as for start-stop-daemon's --retry.
type scheduleValue struct{ value *[]runner.Step }

func (v scheduleValue) Set(s string) error {
	steps, err := parseSchedule(s)
	if err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	*v.value = steps
	return nil
}

const scheduleExample = "TERM/10s/INT/5s/KILL"

// parseSchedule reads a schedule up to its KILL, which is no step of its own: it comes in any case.
func parseSchedule(s string) (steps []runner.Step, err error) {
	if s == "" {
		return nil, fmt.Errorf("it is empty (%s)", scheduleExample)
	}
	items := strings.Split(s, "/")
	killed, after := false, false // KILL stands in it; so does a time after that
	for i, item := range items {
		sig, wait, err := scheduleItem(item)
		switch {
		case err != nil:
			return nil, err
		case killed && (sig != 0 || after):
			return nil, errors.New("after KILL nothing can come but one time, as nothing is left to be stopped")
		case killed:
			after = true
		case sig == unix.SIGKILL:
			if killed = true; len(steps) == 0 {
				steps = append(steps, runner.Step{Signal: runner.NoSignal})
			}
		case sig != 0:
			steps = append(steps, runner.Step{Signal: int(sig)})
		case len(items) == 1:
			steps = append(steps, runner.Step{Wait: wait})
		case i == 0:
			steps = append(steps, runner.Step{Signal: runner.NoSignal, Wait: wait})
		default:
			last := &steps[len(steps)-1]
			last.Wait = plus(last.Wait, wait)
		}
	}
	return steps, nil
}

// scheduleItem is a signal or, when that is 0, a time. A number is a time: as a signal it takes a dash.
func scheduleItem(item string) (sig syscall.Signal, wait time.Duration, err error) {
	name, dashed := strings.CutPrefix(item, "-")
	switch {
	case item == "":
		return 0, 0, fmt.Errorf("there is nothing between two slashes, or beside one (%s)", scheduleExample)
	case strings.EqualFold(item, "forever"):
		return 0, 0, errors.New(`"forever" is refused: a stop must end; give a time`)
	}
	if !dashed {
		if wait, err := parseTime(item); err == nil {
			return 0, wait, nil
		}
	}
	if sig, err = forward.Parse(name); err == nil {
		if sig == unix.SIGSTOP {
			return 0, 0, errors.New("STOP stops nothing for good: what is stopped cannot end")
		}
		return sig, 0, nil
	}
	hint := nearSignal(name)
	if near := spoken(item); near != "" {
		hint = " (did you mean " + near + "?)"
	}
	return 0, 0, fmt.Errorf("%q is neither a signal nor a time%s", item, hint)
}

func (v scheduleValue) String() string { return "" }
func (v scheduleValue) Type() string   { return "SCHEDULE" }

// parentValue is a switch that also takes the pid of the process whose death counts.
type parentValue struct {
	value *bool
	pid   *int
}

func (v parentValue) Set(s string) error {
	// 1 is true, as everywhere; and when process 1 dies nobody is left to see it.
	if b, err := strconv.ParseBool(s); err == nil {
		*v.value, *v.pid = b, 0
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false nor a process (--die-with-parent=$$)", s)
	}
	*v.value, *v.pid = true, int(n)
	return nil
}

func (v parentValue) String() string {
	if v.value == nil || !*v.value {
		return "false"
	}
	if *v.pid != 0 {
		return strconv.Itoa(*v.pid)
	}
	return "true"
}

func (v parentValue) Type() string { return "bool" }

// summand is a part of the time that a stop takes.
type summand struct {
	time time.Duration
	what string // "2 × 5s for on-exit commands"
	from string // the flag or variable that says so
}

// budget is what a stop may take, and what is known of what it will.
type budget struct {
	deadline time.Duration
	from     string // where the deadline was given
	onStop   []summand
	drain    []summand
	signals  []summand // the grace or the schedule, where one was given
	onExit   []summand
}

// fit gives the time that is left from the beginning of the stop until everything is killed so that the cleanup
// commands have their time before the deadline. The error names every part of what does not fit.
func (b budget) fit() (time.Duration, error) {
	reserve := min(b.deadline/10, time.Second)
	before := slices.Concat(b.onStop, b.drain)
	all := slices.Concat(before, b.signals, b.onExit)
	if sum := total(all); sum > b.deadline {
		return 0, fmt.Errorf("%s: a stop takes longer than %v: %s = %v", b.from, b.deadline, spell(all), sum)
	}
	left := b.deadline - total(b.onExit) - reserve
	if left-total(before) <= 0 {
		rest := append(slices.Concat(before, b.onExit), summand{reserve, reserve.String() + " for graceful itself", ""})
		return 0, fmt.Errorf("%s: nothing of %v is left for the target: %s = %v", b.from, b.deadline, spell(rest), total(rest))
	}
	return left, nil
}

func total(parts []summand) (sum time.Duration) {
	for _, p := range parts {
		sum = plus(sum, p.time)
	}
	return sum
}

// plus adds times that are not less than 0; what is too long is as long as it can be.
func plus(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func spell(parts []summand) string {
	var words []string
	for _, p := range parts {
		if p.from != "" {
			p.what += " (" + p.from + ")"
		}
		words = append(words, p.what)
	}
	return strings.Join(words, " + ")
}

// times is a summand for commands that run one after the other, or all at once.
func times(n int, limit time.Duration, parallel bool, what, from string) []summand {
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
		sum = plus(sum, limit)
	}
	return []summand{{sum, fmt.Sprintf("%d x %v for %s commands", n, limit, what), from}}
}
