package cmd

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"graceful/runner"
	"graceful/runner/machine"
)

// statusUnfinished is the exit status of recover if a run could not be finished, or a cleanup command in it failed or
// was interrupted.
const statusUnfinished = 1

func newRecover(status *int) *cobra.Command {
	var options runner.Recovery
	var config runner.Config
	var given map[string]string
	c := &cobra.Command{
		Use:   "recover --state-dir DIR [flags]",
		Short: "Finish what killed runs left undone",
		Long: `Finish the runs in a state directory that were cut off: all of graceful was killed, or the machine
stopped. For each, graceful recover ends what is left of the process tree, then runs the cleanup
commands that have not run yet. It leaves live runs alone.

A cleanup command that could not be started for want of a directory, processes or memory is started
now.

A cleanup command is interrupted if it was started and its end was not recorded. It may have done
its work, so graceful recover reports it and does not run it again. It keeps the ledger until you
remove that, or until --retry-interrupted runs the command again (not while a run of that name
lives).

A run that began on another machine, or in a container that cannot be seen from here, may live.
graceful recover leaves it alone, unless --from-other-machines says that it does not.

Exit status: 0 if nothing is left to do, also if DIR does not exist; 1 if a run could not be
finished, or a cleanup command failed or was interrupted; 128+n if signal n stopped graceful recover
between two runs; 125 if graceful itself failed. Each flag has a variable: for --state-dir,
GRACEFUL_STATE_DIR.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if options.StateDir == "" {
				return errors.New("recover: no state directory was given (graceful recover --state-dir DIR)")
			}
			if err := checkLogFlags(config, given); err != nil {
				return err
			}
			config.Env = os.Environ()
			out := newOutput(syscall.Stderr)
			defer out.flush()
			log := newLogger(out, config, time.Now())
			done, err := runner.Recover(options, log)
			switch {
			case err != nil:
				log.Error(messageRecover, "err", err)
				*status = machine.StatusFailed
			case done.StopSignal != 0:
				*status = machine.Ending{Signal: int(done.StopSignal)}.Status()
			case done.FailedRuns > 0:
				*status = statusUnfinished
			}
			return nil
		},
	}
	g := newGroup("Recovering",
		"graceful recover --strict-state-dir --state-dir /var/lib/graceful",
		"graceful recover --state-dir /var/lib/graceful --name deploy --retry-interrupted",
		"graceful recover --state-dir /mnt/volume --from-other-machines")
	g.Var(textValue(&options.StateDir, "DIR", completeDirectory), "state-dir", "directory in which the runs are recorded")
	g.addSwitch(&options.StrictStateDir, "strict-state-dir",
		"refuse a state directory that another user can replace, through a parent of it")
	g.Var(textValue(&options.Name, "NAME", cobra.NoFileCompletions), "name",
		"name of the one run to finish (default: all)")
	g.addSwitch(&options.RetryInterrupted, "retry-interrupted", "run interrupted cleanup commands again")
	g.addSwitch(&options.FromOtherMachines, "from-other-machines",
		"finish runs, too, that began on another machine, or in a container that cannot be seen from here: "+
			"none of their processes lives")
	logging := newGroup("Output", "graceful recover --state-dir /var/lib/graceful --verbose --log-format json",
		"graceful recover --state-dir /var/lib/graceful --quiet --annotations off")
	logging.addLogFlags(&config)
	given = addFlagGroups(c, g, logging, environmentGroup("graceful recover --no-env --state-dir /var/lib/graceful"))
	return c
}
