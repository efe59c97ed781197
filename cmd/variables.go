package cmd

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"graceful/cleanup"
	"graceful/runner"

	"github.com/spf13/pflag"
)

type logFormat string

const (
	logText logFormat = "text"
	logJSON logFormat = "json"
)

var logFormats = []logFormat{logText, logJSON}

// A value's Type is how help names it.

// durationValue takes 10s, 1m30s, and as sleep(1) does a bare number of seconds.
type durationValue struct {
	value    *time.Duration
	positive bool // 0 is refused
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
	switch near := spoken(s); {
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

// boolValue is a switch that says in our words what is wrong.
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

// enumValue is one word of a few.
type enumValue[T ~string] struct {
	value *T
	name  string // for help
	what  string // what the words are, for messages
	words []T
}

func (v enumValue[T]) Set(s string) error {
	if !slices.Contains(v.words, T(s)) {
		words := texts(v.words)
		hint := didYouMean(s, "", words)
		if hint == "" {
			hint = " (" + strings.Join(words, ", ") + ")"
		}
		return fmt.Errorf("%q is no %s%s", s, v.what, hint)
	}
	*v.value = T(s)
	return nil
}

func (v enumValue[T]) choices() []string { return texts(v.words) }

func texts[T ~string](words []T) (all []string) {
	for _, w := range words {
		all = append(all, string(w))
	}
	return all
}

func (v enumValue[T]) String() string {
	if v.value == nil {
		return ""
	}
	return string(*v.value)
}

func (v enumValue[T]) Type() string { return v.name }

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

// variable is the name of the environment variable that stands for a flag.
func variable(flag string) string {
	return "GRACEFUL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// noEnv is the flag that has no variable: with it, no flag is read from one.
const noEnv = "no-env"

// environmentGroup is that flag, with an example.
func environmentGroup(example string) flagGroup {
	g := newGroup("The environment", example)
	g.on(new(bool), noEnv, "", "read no flag from a variable (GRACEFUL_...): for an environment that others have made")
	return g
}

// readVariables sets the flags that were not given from their variables, unless --no-env forbids that, and tells for each
// flag that was set either way how. An empty variable counts as not set.
func readVariables(flags *pflag.FlagSet) (given map[string]string, err error) {
	var errs []error
	ignore := flags.Lookup(noEnv).Value.String() == "true"
	given = map[string]string{}
	flags.VisitAll(func(f *pflag.Flag) {
		name := variable(f.Name)
		value := os.Getenv(name)
		switch {
		case f.Changed:
			given[f.Name] = "--" + f.Name
		case value == "" || f.Name == "help" || f.Name == noEnv || ignore:
		case f.Name == "name" && os.Getenv("GRACEFUL_RUN_ID") != "":
			// Inside a run the variable tells that run's name; it is not meant for us.
		default:
			given[f.Name] = name
			if err := f.Value.Set(value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	})
	return given, errors.Join(errs...)
}

// targetEnviron leaves out what was meant for us: a run inside the run must not run its cleanup commands again.
func targetEnviron(environ []string) []string {
	ours := append([]string{"GRACEFUL_SOCKET"}, runner.OutcomeVariables...)
	newRun(new(int)).Flags().VisitAll(func(f *pflag.Flag) { ours = append(ours, variable(f.Name)) })
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(ours, name)
	})
}
