// Package cmd is the command line: flags and variables become one checked configuration, what came of the run
// becomes an exit status, and every word that is said to a person is said here.
package cmd

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"graceful/runner"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// statusFailed is the exit status for a failure of our own (as with timeout(1) and the container engines).
const statusFailed = 125

// Main is the program; args includes its name. It returns the exit status.
func Main(args []string) int {
	if len(args) > 0 {
		switch args[0] {
		case runner.ShimName:
			return runner.Shim(args[1:])
		case runner.SupervisorName:
			return supervise(args[1:])
		}
	}
	status := 0
	root := newRoot(&status)
	if len(args) > 0 {
		root.SetArgs(args[1:])
	}
	if c, err := root.ExecuteC(); err != nil {
		out := newOutput(syscall.Stderr)
		log := newLogger(out, runner.Config{LogJSON: wantsJSON(c)}, time.Now())
		errs := []error{err}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			errs = joined.Unwrap()
		}
		for _, err := range errs {
			log.Error(err.Error())
		}
		out.flush()
		return statusFailed
	}
	return status
}

// wantsJSON tells in which form a command's mistakes are to be said, as far as it has been read.
func wantsJSON(c *cobra.Command) bool {
	f := c.Flags().Lookup("log-format")
	if f != nil && !f.Changed {
		if ignore := c.Flags().Lookup(noEnv); ignore != nil && ignore.Value.String() == "true" {
			return false
		}
		return os.Getenv(variable(f.Name)) == string(logJSON)
	}
	return f != nil && f.Value.String() == string(logJSON)
}

func newRoot(status *int) *cobra.Command {
	root := &cobra.Command{
		Use:   "graceful",
		Short: "Run a program, stop it properly, leave nothing behind",
		Long: `graceful runs a program in a process group of its own, passes signals on to it, stops it with a grace
period before SIGKILL, ends every process that it leaves behind, runs cleanup commands exactly once
whatever happened, and exits as the program did.`,
		Example: `  graceful run --grace 10s --on-exit ./flush.sh -- ./myservice
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
	root.AddCommand(newRun(status), newDefer(status), newCancel(status), newRecover(status), newDoctor(status), newVersion())
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

// flagError says what was wrong with the command line in our own form.
func flagError(c *cobra.Command, err error) error {
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
		hint := didYouMean(name, "--", names)
		if hint == "" {
			hint = fmt.Sprintf(" (see %s --help)", c.CommandPath())
		}
		return fmt.Errorf("%s: there is no such flag%s", given, hint)
	}
	return fmt.Errorf("%w (see %s --help)", err, c.CommandPath())
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			version := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = describeBuild(info)
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "graceful", version)
			return err
		},
	}
}

// describeBuild names the version, the revision unless the version is made of it, and the compiler.
func describeBuild(info *debug.BuildInfo) string {
	words := []string{info.Main.Version}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(info.Main.Version, s.Value[:min(12, len(s.Value))]) {
			words = append(words, s.Value)
		}
	}
	return strings.Join(append(words, info.GoVersion), " ")
}
