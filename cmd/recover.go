package cmd

import (
	"errors"
	"syscall"
	"time"

	"graceful/runner"

	"github.com/spf13/cobra"
)

// statusUnfinished is the exit status of recover when something is left that somebody has to look at.
const statusUnfinished = 1

func newRecover(status *int) *cobra.Command {
	var want runner.Recovery
	var config runner.Config
	format := logText
	c := &cobra.Command{
		Use:   "recover --state-dir DIR [flags]",
		Short: "Finish what killed runs left undone",
		Long: `Finish the runs in a state directory that all of graceful's processes were killed in, or that the machine
stopped in: what is left of each tree is ended, and then the cleanup commands that have not run yet are run.
Runs that live are left alone.

A cleanup command that had been started, and that nobody saw end, is reported and not run again, since it
may have done its work: its ledger is kept, until it is removed or --retry-interrupted runs the command again.

Exit status: 0 when nothing is left to do; 1 when a run could not be finished, or a cleanup command failed or
was interrupted; 128+n when signal n stopped it between two runs; 125 if graceful itself failed.`,
		Example: `  graceful recover --state-dir /var/lib/graceful
  graceful recover --state-dir /var/lib/graceful --retry-interrupted`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := readVariables(c.Flags()); err != nil {
				return err
			}
			if want.StateDir == "" {
				return errors.New("recover: no state directory was given (graceful recover --state-dir DIR)")
			}
			config.LogJSON = format == logJSON
			out := newOutput(syscall.Stderr)
			defer out.flush()
			done, err := runner.Recover(want, newLogger(out, config, time.Now()))
			switch {
			case err != nil:
				say(out, err.Error())
				*status = statusFailed
			case done.Stopped != 0:
				*status = runner.Ending{Signal: int(done.Stopped)}.Status()
			case done.Failed > 0:
				*status = statusUnfinished
			}
			return nil
		},
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringVar(&want.StateDir, "state-dir", "", "`directory` in which the runs are recorded")
	flags.StringVar(&want.Name, "name", "", "`name` of the one run to finish (default: all)")
	flags.VarPF(boolValue{&want.Retry}, "retry-interrupted", "", "run commands again that were interrupted").NoOptDefVal = "true"
	flags.VarPF(boolValue{&config.Verbose}, "verbose", "v", "tell every step, with the time since the start").NoOptDefVal = "true"
	flags.Var(enumValue[logFormat]{&format, "form of messages", []logFormat{logText, logJSON}}, "log-format", "`form` of messages: text, json")
	return c
}
