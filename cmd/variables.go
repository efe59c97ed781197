package cmd

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"graceful/runner"
)

// noEnv is the name of the flag that makes graceful ignore the variables of flags. That flag itself has no variable.
const noEnv = "no-env"

// variable returns the name of the environment variable of a flag.
func variable(flag string) string {
	return "GRACEFUL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// environmentGroup returns the flag noEnv, with an example.
func environmentGroup(example string) flagGroup {
	g := newGroup("Environment", example)
	g.addSwitch(new(bool), noEnv,
		"ignore the variables of the flags (GRACEFUL_...), for an environment that is not trusted")
	return g
}

// ignoresVariables reports whether noEnv was given.
func ignoresVariables(flags *pflag.FlagSet) bool { return flags.Lookup(noEnv).Value.String() == "true" }

// readVariables sets each flag that was not given to the value of its variable, unless noEnv was given. An empty
// variable counts as not set. For each flag that is set, readVariables adds the source of the value to given: "--grace"
// or "GRACEFUL_GRACE".
func readVariables(flags *pflag.FlagSet, given map[string]string) error {
	var errs []error
	ignore := ignoresVariables(flags)
	flags.VisitAll(func(f *pflag.Flag) {
		name := variable(f.Name)
		value := os.Getenv(name)
		switch {
		case f.Changed:
			given[f.Name] = "--" + f.Name
		case value == "" || f.Name == "help" || f.Name == noEnv || ignore:
		case f.Name == "name" && os.Getenv("GRACEFUL_RUN_ID") != "":
			// Skip GRACEFUL_NAME inside a run. There it contains the name of that run, and does not set a flag of a
			// nested run.
		default:
			given[f.Name] = name
			if err := f.Value.Set(value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	})
	return errors.Join(errs...)
}

// targetEnviron returns environ without the variables of the flags of run, without GRACEFUL_SOCKET, and without
// runner.OutcomeVariables. Otherwise a nested run could run the cleanup commands of the outer run a second time.
func targetEnviron(environ []string) []string {
	ours := append([]string{"GRACEFUL_SOCKET"}, runner.OutcomeVariables...)
	newRun(new(int)).Flags().VisitAll(func(f *pflag.Flag) { ours = append(ours, variable(f.Name)) })
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(ours, name)
	})
}
