// Package cmd implements the command line. It turns flags and variables into a valid configuration, turns the outcome
// of a run into an exit status, and contains all texts for users. It starts no process, and signals only its own: with
// --reraise graceful ends by the signal that ended the target.
package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"graceful/runner"
	"graceful/runner/machine"
)

// Main runs graceful with args, which begin with its name, and returns the exit status.
func Main(args []string) int {
	switch {
	case len(args) > 0 && args[0] == runner.SuccessorName:
		return takeOver(args[1:])
	case len(args) > 1 && args[1] == "run":
		runner.ListenEarly()
	}
	status := 0
	root := newRoot(&status)
	if len(args) > 0 {
		root.SetArgs(args[1:])
	}
	if c, err := root.ExecuteC(); err != nil {
		logCommandError(c, err)
		if errors.As(err, new(refusedError)) {
			return statusRefused
		}
		return machine.StatusFailed
	}
	return status
}

// logCommandError logs err, or each of the errors that are joined in err. The flags of c select the form of the log.
func logCommandError(c *cobra.Command, err error) {
	out := newOutput(syscall.Stderr)
	defer out.flush()
	log := newLogger(out, runner.Config{
		LogJSON: flagSoFar(c, "log-format") == formJSON, Env: os.Environ(),
		Annotations: c.Flags().Lookup("annotations") != nil && flagSoFar(c, "annotations") != annotationsOff,
	}, time.Now())
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	for _, err := range errs {
		log.Error(messageCommand, "err", err)
	}
}

// flagSoFar returns the value of a flag of c if the flag was parsed before an error. Otherwise it returns the value of
// the flag's variable, or "" if the variable is not set or variables are ignored.
func flagSoFar(c *cobra.Command, name string) string {
	f := c.Flags().Lookup(name)
	switch {
	case f == nil:
		return ""
	case f.Changed:
		return f.Value.String()
	case ignoresVariables(c.Flags()):
		return ""
	}
	return os.Getenv(variable(name))
}

func newRoot(status *int) *cobra.Command {
	root := &cobra.Command{
		Use:   "graceful",
		Short: "Run a program, stop it properly, leave nothing behind",
		Long: `graceful runs a program, the target, in a process group of its own. It forwards signals to the
target, and stops it with a grace period before SIGKILL. It ends every process that the target
leaves behind, runs cleanup commands exactly once whatever happens, and exits as the target did.`,
		Example: `  graceful run --grace 10s --on-exit ./flush.sh -- ./myservice
  graceful run --state-dir /var/lib/graceful --name deploy --on-exit ./unlock.sh -- ./deploy.sh
  graceful doctor
  ENTRYPOINT ["/graceful", "run", "--"]`,
		SuggestionsMinimumDistance: 2,

		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(c, args[0])
			}
			return c.Help()
		},
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		newRun(status), newDefer(), newCancel(), newRecover(status), newDoctor(status), newVersion())
	return root
}

func unknownCommand(c *cobra.Command, name string) error {
	hint := "see graceful help"
	if near := c.SuggestionsFor(name); len(near) > 0 {
		hint = "did you mean graceful " + near[0] + "?"
	} else if strings.Contains(name, "/") {
		hint = "to run it: graceful run -- " + name
	}
	return fmt.Errorf("there is no command %q (%s)", name, hint)
}

// flagError rewords an error of pflag, and suggests the most similar flag.
func flagError(c *cobra.Command, err error) error {
	help := fmt.Sprintf(" (see %s --help)", c.CommandPath())
	var invalid *pflag.InvalidValueError
	var unknown *pflag.NotExistError
	switch {
	case errors.As(err, &invalid):
		return fmt.Errorf("--%s: %w", invalid.GetFlag().Name, invalid.Unwrap())
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		given := "--" + name
		if shorthands := unknown.GetSpecifiedShortnames(); shorthands != "" {
			name, given = shorthands, "-"+shorthands
		}
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		return fmt.Errorf("%s: there is no such flag%s", given, cmp.Or(didYouMean(name, "--", names), help))
	}
	return fmt.Errorf("%w%s", err, help)
}
