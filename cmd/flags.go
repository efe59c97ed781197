package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"graceful/cleanup"
	"graceful/forward"
)

// flagValue is the value of a flag. The flag or its variable sets the value; otherwise the value stays the default.
type flagValue[T any] struct {
	value    *T
	kind     string // word that help prints after the name of the flag
	read     func(string) (T, error)
	text     func(T) string       // nil: help prints no default
	complete cobra.CompletionFunc // nil: the shell completes file names
}

func (v flagValue[T]) Set(s string) error {
	value, err := v.read(s)
	if err == nil {
		*v.value = value
	}
	return err
}

func (v flagValue[T]) String() string {
	if v.text == nil {
		return ""
	}
	return v.text(*v.value)
}

func (v flagValue[T]) Type() string                     { return v.kind }
func (v flagValue[T]) completion() cobra.CompletionFunc { return v.complete }

// durationValue returns the value of a flag that accepts a time: 10s, 1m30s, or a number of seconds, which may have a
// fraction as for sleep(1).
func durationValue(value *time.Duration) flagValue[time.Duration] {
	text := func(d time.Duration) string {
		if d == 0 {
			return "0"
		}
		return d.String()
	}
	return flagValue[time.Duration]{value, "TIME", parseTime, text, completeWord(exampleTimes...)}
}

// positiveDurationValue returns a durationValue that refuses 0.
func positiveDurationValue(value *time.Duration) flagValue[time.Duration] {
	v := durationValue(value)
	v.read = func(s string) (time.Duration, error) {
		d, err := parseTime(s)
		if err == nil && d == 0 {
			err = errors.New("the time must be more than 0")
		}
		return d, err
	}
	return v
}

func parseTime(s string) (time.Duration, error) {
	text := s
	if strings.Trim(s, "0123456789.") == "" { // a number without a unit
		text += "s"
	}
	v, err := time.ParseDuration(text)
	switch near := suggestTime(s); {
	case err != nil && near != "":
		return 0, fmt.Errorf("%q is not a time (did you mean %s?)", s, near)
	case err != nil:
		return 0, fmt.Errorf("%q is not a time (10s, 1m30s, 500ms)", s)
	case v < 0:
		return 0, fmt.Errorf("%q is less than 0", s)
	case v == 0 && strings.ContainsAny(s, "123456789"): // do not round to 0, which may mean "no limit" or "at once"
		return 0, fmt.Errorf("%q is less than 1ns, the shortest time", s)
	}
	return v, nil
}

// boolValue returns the value of a flag that accepts true or false.
func boolValue(value *bool) flagValue[bool] {
	read := func(s string) (bool, error) {
		v, err := strconv.ParseBool(s)
		if err != nil {
			err = fmt.Errorf("%q is neither true nor false", s)
		}
		return v, err
	}
	return flagValue[bool]{value, "bool", read, strconv.FormatBool, nil}
}

// textValue returns the value of a flag that accepts any text.
func textValue(value *string, kind string, complete cobra.CompletionFunc) flagValue[string] {
	read := func(s string) (string, error) { return s, nil }
	text := func(s string) string { return s }
	return flagValue[string]{value, kind, read, text, complete}
}

// enumValue returns the value of a flag that accepts one of a few words. what describes these words in error messages.
func enumValue[T ~string](value *T, kind, what string, words []T) flagValue[T] {
	text := func(word T) string { return string(word) }
	known := convert(words, text)
	read := func(s string) (T, error) {
		if slices.Contains(known, s) {
			return T(s), nil
		}
		hint := cmp.Or(didYouMean(s, "", known), " ("+strings.Join(known, ", ")+")")
		return "", fmt.Errorf("%q is not a valid %s%s", s, what, hint)
	}
	return flagValue[T]{value, kind, read, text, completeWord(known...)}
}

// convert returns a text for each of the values.
func convert[T any](values []T, text func(T) string) []string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = text(v)
	}
	return texts
}

// formatValue returns the value of a flag that selects the form of what: text or JSON.
func formatValue(json *bool, what string) flagValue[bool] {
	return wordsValue(json, "FORM", "form of "+what, "text", formJSON)
}

const formJSON = "json"

// annotationsValue returns the value of a flag that selects whether graceful writes annotations for CI systems.
func annotationsValue(auto *bool) flagValue[bool] {
	return wordsValue(auto, "WHETHER", "choice of annotations", annotationsOff, "auto")
}

const annotationsOff = "off"

// wordsValue returns the value of a flag that accepts two words. The word no means false, and the word yes means true.
func wordsValue(value *bool, kind, what, no, yes string) flagValue[bool] {
	word := enumValue(new(string), kind, what, []string{no, yes})
	read := func(s string) (bool, error) {
		s, err := word.read(s)
		return s == yes, err
	}
	text := func(v bool) string {
		if v {
			return yes
		}
		return no
	}
	return flagValue[bool]{value, kind, read, text, word.complete}
}

// commandsValue returns the value of a flag that appends a cleanup command or an on-stop command to a list.
func commandsValue(value *[]cleanup.Command) flagValue[[]cleanup.Command] {
	read := func(s string) ([]cleanup.Command, error) {
		c, err := cleanup.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", s, err)
		}
		return append(*value, c), nil
	}
	return flagValue[[]cleanup.Command]{value, "COMMAND", read, nil, completeCommand}
}

// pidValue returns the value of a flag that accepts the pid of a process.
func pidValue(value *int) flagValue[int] {
	read := func(s string) (int, error) {
		pid, err := strconv.ParseUint(s, 10, 31)
		if err != nil || pid == 0 {
			return 0, fmt.Errorf("%q is not a pid", s)
		}
		return int(pid), nil
	}
	return flagValue[int]{value, "PID", read, nil, cobra.NoFileCompletions}
}

// parentValue returns the value of a switch that also accepts the pid of the process whose death stops the run. true
// and false set pid to 0.
func parentValue(value *bool, pid *int) flagValue[bool] {
	read := func(s string) (bool, error) {
		// Take 1 as true, as every switch does, and not as a pid. graceful cannot outlive process 1.
		if b, err := strconv.ParseBool(s); err == nil {
			*pid = 0
			return b, nil
		}
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return false, fmt.Errorf("%q is neither true nor false nor a process (--die-with-parent=$$)", s)
		}
		*pid = int(n)
		return true, nil
	}
	text := func(on bool) string {
		if on && *pid != 0 {
			return strconv.Itoa(*pid)
		}
		return strconv.FormatBool(on)
	}
	return flagValue[bool]{value, "bool", read, text, nil}
}

// rewriteValue returns the value of a flag that collects pairs of signals. When graceful receives the first signal of a
// pair, it forwards the second one instead, or none if that is 0.
func rewriteValue(value *map[int]int) flagValue[map[int]int] {
	name := func(sig int) string { return forward.Name(syscall.Signal(sig)) }
	return pairsValue(value, "TERM=QUIT, or HUP=0 to drop it", parseReceived, parseSent, name, completeRewrite)
}

func parseReceived(s string) (int, error) {
	sig, err := parseSignal(s)
	if err != nil {
		return 0, err
	}
	switch forward.MeaningOf(sig) {
	case forward.Ours:
		return 0, fmt.Errorf("%s is for graceful itself, which never forwards it", forward.Name(sig))
	case forward.Uncatchable:
		return 0, fmt.Errorf("%s cannot be caught", forward.Name(sig))
	}
	return int(sig), nil
}

func parseSent(s string) (int, error) {
	if s == "0" || strings.EqualFold(s, "none") {
		return 0, nil
	}
	sig, err := parseSignal(s)
	return int(sig), err
}

// parseSignal reads a signal. If the name is unknown, the error suggests the most similar one.
func parseSignal(s string) (syscall.Signal, error) {
	sig, err := forward.Parse(s)
	if err != nil {
		return 0, fmt.Errorf("%w%s", err, suggestSignal(s))
	}
	return sig, nil
}

func suggestSignal(s string) string {
	return didYouMean(strings.TrimPrefix(strings.ToUpper(s), "SIG"), "", forward.Names())
}

// stopOnValue returns the value of a flag that accepts the list of signals that begin a stop.
func stopOnValue(value *[]int) flagValue[[]int] {
	read := func(s string) (signals []int, err error) {
		for _, name := range listItems(s) {
			sig, err := parseReceived(name)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(signals, sig) {
				signals = append(signals, sig)
			}
		}
		if len(signals) == 0 {
			return nil, errors.New("it is empty (TERM,INT,QUIT)")
		}
		return signals, nil
	}
	text := func(signals []int) string {
		return strings.Join(convert(signals, func(n int) string { return forward.Name(syscall.Signal(n)) }), ",")
	}
	complete := completeWord("TERM,INT,QUIT", "TERM,INT", "WINCH", "USR1", "RTMIN+3")
	return flagValue[[]int]{value, "SIGNALS", read, text, complete}
}

// numbers returns the numbers of signals.
func numbers(signals []syscall.Signal) (all []int) {
	for _, sig := range signals {
		all = append(all, int(sig))
	}
	return all
}

// remapValue returns the value of a flag that collects pairs of exit statuses. graceful exits with the second status of
// a pair instead of the first one.
func remapValue(value *map[int]int) flagValue[map[int]int] {
	return pairsValue(value, "143=0", parseStatus, parseStatus, strconv.Itoa, completeWord("143=0", "130=0"))
}

func parseStatus(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%q is not an exit status (0 to 255)", s)
	}
	return int(n), nil
}

// listItems returns the items of a list. Commas, blanks, tabs or newlines separate the items.
func listItems(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(", \t\n", r) })
}

// pairsValue returns the value of a flag that collects pairs FROM=TO, separated as for listItems. A second pair with
// the same FROM is an error.
func pairsValue(value *map[int]int, example string, parseFrom, parseTo func(string) (int, error),
	name func(from int) string, complete cobra.CompletionFunc,
) flagValue[map[int]int] {
	read := func(s string) (map[int]int, error) {
		list := listItems(s)
		if len(list) == 0 {
			return nil, fmt.Errorf("it is empty (%s)", example)
		}
		pairs := map[int]int{}
		maps.Copy(pairs, *value)
		for _, pair := range list {
			left, right, ok := strings.Cut(pair, "=")
			if !ok {
				return nil, fmt.Errorf("%q is not of the form FROM=TO (%s)", pair, example)
			}
			from, err := parseFrom(left)
			to, toErr := parseTo(right)
			err = cmp.Or(err, toErr)
			if _, twice := pairs[from]; twice && err == nil {
				err = fmt.Errorf("%s has been given before", name(from))
			}
			if err != nil {
				return nil, fmt.Errorf("%q: %w", pair, err)
			}
			pairs[from] = to
		}
		return pairs, nil
	}
	return flagValue[map[int]int]{value, "FROM=TO", read, nil, complete}
}
