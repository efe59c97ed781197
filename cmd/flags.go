package cmd

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/forward"
)

// The values of flags. Set also reads the variable of a flag. Help prints what Type returns after the name of the flag.

// durationValue is a time: 10s, 1m30s, or a number of seconds as for sleep(1).
type durationValue struct {
	value    *time.Duration
	positive bool // 0 is invalid
}

func (d durationValue) Set(s string) error {
	v, err := parseTime(s)
	switch {
	case err != nil:
		return err
	case v == 0 && d.positive:
		return errors.New("the time must be more than 0")
	}
	*d.value = v
	return nil
}

func parseTime(s string) (time.Duration, error) {
	v, err := time.ParseDuration(s)
	if n, numErr := strconv.ParseUint(s, 10, 31); numErr == nil {
		v, err = time.Duration(n)*time.Second, nil
	}
	switch near := suggestTime(s); {
	case err != nil && near != "":
		return 0, fmt.Errorf("%q is no time (did you mean %s?)", s, near)
	case err != nil:
		return 0, fmt.Errorf("%q is no time (10s, 1m30s, 500ms)", s)
	case v < 0:
		return 0, fmt.Errorf("%q is less than 0", s)
	}
	return v, nil
}

func (d durationValue) String() string {
	if d.value == nil || *d.value == 0 {
		return "0"
	}
	return d.value.String()
}

func (d durationValue) Type() string { return "TIME" }

// boolValue is a switch.
type boolValue struct{ value *bool }

func (b boolValue) Set(s string) error {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	*b.value = v
	return nil
}

func (b boolValue) String() string {
	if b.value == nil {
		return "false"
	}
	return strconv.FormatBool(*b.value)
}

func (b boolValue) Type() string { return "bool" }

// textValue is any text.
type textValue struct {
	value *string
	name  string // for help
}

func (v textValue) Set(s string) error {
	*v.value = s
	return nil
}

func (v textValue) String() string {
	if v.value == nil {
		return ""
	}
	return *v.value
}

func (v textValue) Type() string { return v.name }

// enumValue is one of a few words.
type enumValue[T ~string] struct {
	value *T
	name  string // for help
	what  string // what a word stands for, for error messages
	words []T
}

func (v enumValue[T]) Set(s string) error {
	if !slices.Contains(v.words, T(s)) {
		words := toStrings(v.words)
		hint := didYouMean(s, "", words)
		if hint == "" {
			hint = " (" + strings.Join(words, ", ") + ")"
		}
		return fmt.Errorf("%q is no %s%s", s, v.what, hint)
	}
	*v.value = T(s)
	return nil
}

func (v enumValue[T]) choices() []string { return toStrings(v.words) }

func (v enumValue[T]) String() string {
	if v.value == nil {
		return ""
	}
	return string(*v.value)
}

func (v enumValue[T]) Type() string { return v.name }

// toStrings converts words of any string type.
func toStrings[T ~string](words []T) (all []string) {
	for _, w := range words {
		all = append(all, string(w))
	}
	return all
}

// logFormat is the form of log messages, or of a command's output.
type logFormat string

const (
	logText logFormat = "text"
	logJSON logFormat = "json"
)

// formatValue is the value of a flag that selects a form of what.
func formatValue(value *logFormat, what string) enumValue[logFormat] {
	return enumValue[logFormat]{value, "FORM", "form of " + what, []logFormat{logText, logJSON}}
}

// commandsValue collects cleanup commands.
type commandsValue []cleanup.Command

func (v *commandsValue) Set(s string) error {
	c, err := cleanup.Parse(s)
	if err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	*v = append(*v, c)
	return nil
}

func (v *commandsValue) String() string { return "" }
func (v *commandsValue) Type() string   { return "COMMAND" }

// pidValue is the pid of a process.
type pidValue struct{ value *int }

func (v pidValue) Set(s string) error {
	pid, err := strconv.ParseUint(s, 10, 31)
	if err != nil || pid == 0 {
		return fmt.Errorf("%q is no pid", s)
	}
	*v.value = int(pid)
	return nil
}

func (v pidValue) String() string {
	if v.value == nil || *v.value == 0 {
		return ""
	}
	return strconv.Itoa(*v.value)
}

func (v pidValue) Type() string { return "PID" }

// parentValue is a switch that also accepts the pid of the process whose death stops the run.
type parentValue struct {
	value *bool
	pid   *int
}

func (v parentValue) Set(s string) error {
	// 1 means true, as for every switch. The death of process 1 cannot be seen: it ends every process.
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

// rewriteValue collects pairs of signals: the one that graceful receives, and the one that it forwards instead.
type rewriteValue struct{ value *map[int]int }

func (v rewriteValue) Set(s string) error {
	return eachPair(s, "TERM=QUIT, or HUP=0 to drop it", func(from, to string) error {
		received, err := parseSignal(from)
		if err != nil {
			return err
		}
		switch forward.MeaningOf(received) {
		case forward.Ours:
			return fmt.Errorf("%s is for graceful itself, which never forwards it", forward.Name(received))
		case forward.Uncatchable:
			return fmt.Errorf("%s cannot be caught", forward.Name(received))
		}
		sent := syscall.Signal(0)
		if to != "0" && !strings.EqualFold(to, "none") {
			if sent, err = parseSignal(to); err != nil {
				return err
			}
		}
		return addPair(v.value, int(received), int(sent), forward.Name(received))
	})
}

func (v rewriteValue) String() string { return "" }
func (v rewriteValue) Type() string   { return "FROM=TO" }

// remapValue collects pairs of exit statuses: the target's, and the one that graceful exits with instead.
type remapValue struct{ value *map[int]int }

func (v remapValue) Set(s string) error {
	return eachPair(s, "143=0", func(from, to string) error {
		was, err := parseStatus(from)
		if err != nil {
			return err
		}
		is, err := parseStatus(to)
		if err != nil {
			return err
		}
		return addPair(v.value, was, is, strconv.Itoa(was))
	})
}

func (v remapValue) String() string { return "" }
func (v remapValue) Type() string   { return "FROM=TO" }

// eachPair calls add with each pair of a list of FROM=TO. Commas or blanks separate the pairs.
func eachPair(s, example string, add func(from, to string) error) error {
	list := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
	if len(list) == 0 {
		return fmt.Errorf("it is empty (%s)", example)
	}
	for _, pair := range list {
		from, to, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%q is no FROM=TO (%s)", pair, example)
		}
		if err := add(from, to); err != nil {
			return fmt.Errorf("%q: %w", pair, err)
		}
	}
	return nil
}

// addPair adds a pair to a map, which it makes if it is nil. A second pair for one key is ambiguous, and an error.
func addPair(m *map[int]int, from, to int, name string) error {
	if _, twice := (*m)[from]; twice {
		return fmt.Errorf("%s has been given before", name)
	}
	if *m == nil {
		*m = map[int]int{}
	}
	(*m)[from] = to
	return nil
}

func parseStatus(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%q is no exit status (0 to 255)", s)
	}
	return int(n), nil
}

// parseSignal reads a signal. The error names the nearest one.
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
