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
		Long: `Finish the runs in a state directory that all of graceful's processes were killed in, or that the
machine stopped in: what is left of each tree is ended, and then the cleanup commands that have not
run yet are run. Runs that live are left alone.

A cleanup command that had been started, and that nobody saw end, is reported and not run again,
since it may have done its work: its ledger is kept, until it is removed or --retry-interrupted runs
the command again. It does not while another run of that name lives.

Exit status: 0 when nothing is left to do; 1 when a run could not be finished, or a cleanup command
failed or was interrupted; 128+n when signal n stopped it between two runs; 125 if graceful itself
failed. Each flag can be given as a variable, --state-dir as GRACEFUL_STATE_DIR.`,
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
			log := newLogger(out, config, time.Now())
			done, err := runner.Recover(want, log)
			switch {
			case err != nil:
				log.Error(err.Error())
				*status = statusFailed
			case done.Stopped != 0:
				*status = runner.Ending{Signal: int(done.Stopped)}.Status()
			case done.Failed > 0:
				*status = statusUnfinished
			}
			return nil
		},
	}
	what := newGroup("Recovering",
		"graceful recover --strict-state-dir --state-dir /var/lib/graceful",
		"graceful recover --state-dir /var/lib/graceful --name deploy --retry-interrupted")
	what.Var(textValue{&want.StateDir, "DIR"}, "state-dir", "directory in which the runs are recorded")
	what.on(&want.StrictStateDir, "strict-state-dir", "",
		"refuse a state directory that another user can replace, through a parent of it")
	what.Var(textValue{&want.Name, "NAME"}, "name", "name of the one run to finish (default: all)")
	what.on(&want.Retry, "retry-interrupted", "", "run commands again that were interrupted")
	output := newGroup("Output", "graceful recover --state-dir /var/lib/graceful --verbose --log-format json")
	output.on(&config.Verbose, "verbose", "v", "tell every step, with the time since the start")
	output.Var(enumValue[logFormat]{&format, "FORM", "form of messages", logFormats}, "log-format", "form of messages: text, json")
	describe(c, []flagGroup{what, output, environmentGroup("graceful recover --no-env --state-dir /var/lib/graceful")})
	return c
}
