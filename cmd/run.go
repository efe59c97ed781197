package cmd

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/runner"
	"graceful/runner/tree"

	"github.com/spf13/cobra"
)

// runFlags is what the flags of run say.
type runFlags struct {
	config runner.Config
	limit  time.Duration
	format logFormat
}

func newRun(status *int) *cobra.Command {
	f := runFlags{
		config: runner.Config{Grace: 10 * time.Second, Contain: tree.Auto, Order: cleanup.LIFO, Guard: runner.GuardAuto},
		limit:  30 * time.Second,
		format: logText,
	}
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run COMMAND, stop it properly, leave nothing behind",
		Long: `Run COMMAND in a process group of its own. SIGTERM, SIGINT and SIGQUIT begin its stop: they are passed on,
and what is still there when the grace is over gets SIGKILL. Every other signal is passed on. Once COMMAND
has ended, whatever it left behind is ended in the same way; then the cleanup commands run, each once.

Exit status: COMMAND's own; 128+n if signal n ended it; 127 if it was not found, 126 if it could not be
executed; 125 if graceful itself failed.

Each flag can be given as a variable: --on-exit-order as GRACEFUL_ON_EXIT_ORDER. A flag counts for more.`,
		Example: `  graceful run --grace 30s --on-exit "./flush.sh" -- ./myservice --port 8080
  graceful run --on-exit '["rm", "-rf", "/scratch/job-7"]' -- make test`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := readVariables(c.Flags()); err != nil {
				return err
			}
			return f.run(args, status)
		},
	}
	flags := c.Flags()
	flags.SetInterspersed(false)
	flags.SortFlags = false
	flags.Var(durationValue{value: &f.config.Grace}, "grace", "`time` between a stop signal and SIGKILL; 0 kills at once")
	flags.Var((*commandsValue)(&f.config.OnExit), "on-exit",
		"cleanup `command`, run once when all is over: for a shell, or a JSON array of words (repeatable)")
	flags.Var(enumValue[cleanup.Order]{&f.config.Order, "order", cleanup.Orders()}, "on-exit-order",
		"`order` of the cleanup commands: lifo (the last one first), fifo, parallel")
	flags.Var(durationValue{value: &f.limit, positive: true}, "on-exit-timeout", "`time` that each cleanup command may take")
	flags.Var(enumValue[tree.Level]{&f.config.Contain, "level of containment", tree.Levels()}, "contain",
		"`level` at which descendants are held: auto, subreaper, group")
	flags.Var(enumValue[runner.Guard]{&f.config.Guard, "guard", runner.Guards()}, "guard",
		"`whether` a second process finishes the run if graceful itself is killed: on, off, auto (on, but not as PID 1)")
	flags.StringVar(&f.config.StateDir, "state-dir", "",
		"`directory` to record the run in, for graceful recover, should all of graceful be killed or the machine stop")
	flags.StringVar(&f.config.Name, "name", "", "`name` of the run (default: COMMAND's file name); in a state directory one run\nof a name lives at a time, and finishes first what a killed one has left")
	flags.VarPF(boolValue{&f.config.Verbose}, "verbose", "v", "tell every step, with the time since the start").NoOptDefVal = "true"
	flags.Var(enumValue[logFormat]{&f.format, "form of messages", []logFormat{logText, logJSON}}, "log-format", "`form` of messages: text, json")
	return c
}

func (f *runFlags) run(args []string, status *int) error {
	if len(args) == 0 {
		return errors.New("run: no command was given (graceful run [flags] -- COMMAND [ARG...])")
	}
	for i := range f.config.OnExit {
		f.config.OnExit[i].Limit = f.limit
	}
	f.config.Command = args
	f.config.Env = targetEnviron(os.Environ())
	if f.config.Named = f.config.Name != ""; !f.config.Named {
		f.config.Name = filepath.Base(args[0])
	}
	f.config.LogJSON = f.format == logJSON
	out := newOutput(syscall.Stderr)
	defer out.flush()
	run, err := runner.Do(f.config, newLogger(out, f.config, time.Now()))
	*status = run.Status()
	if err != nil {
		say(out, err.Error())
		if errors.Is(err, runner.ErrSetup) {
			*status = statusFailed
		}
	}
	return nil
}

// supervise is the second process of a run that has a guard.
func supervise(args []string) int {
	out := newOutput(syscall.Stderr)
	defer out.flush()
	status, err := runner.Supervise(args, func(c runner.Config, began time.Time) *slog.Logger { return newLogger(out, c, began) })
	if err != nil {
		say(out, "supervising: "+err.Error())
	}
	return status
}

func newLogger(out *output, c runner.Config, began time.Time) *slog.Logger {
	level := slog.LevelWarn
	if c.Verbose {
		level = slog.LevelInfo
	}
	if c.LogJSON {
		return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(&textHandler{out: out, level: level, began: began})
}
