package cmd

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/runner"
	"graceful/runner/tree"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// runFlags is what the flags of run say.
type runFlags struct {
	config      runner.Config
	onStopLimit time.Duration
	onExitLimit time.Duration
	format      logFormat
}

// newFlags has the defaults.
func newFlags() *runFlags {
	return &runFlags{
		config: runner.Config{
			Grace: 10 * time.Second, Contain: tree.Auto, Order: cleanup.LIFO, Guard: runner.GuardAuto,
			ForwardTo: runner.ForwardToGroup, Survivors: runner.StopSurvivors,
		},
		onStopLimit: 10 * time.Second,
		onExitLimit: 30 * time.Second,
		format:      logText,
	}
}

func newRun(status *int) *cobra.Command {
	f := newFlags()
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
			given, err := readVariables(c.Flags())
			if err != nil {
				return err
			}
			return f.run(args, given, status)
		},
	}
	c.Flags().SetInterspersed(false)
	c.Flags().SortFlags = false
	c.Flags().AddFlagSet(f.set())
	return c
}

// set is the flags.
func (f *runFlags) set() *pflag.FlagSet {
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	config := &f.config
	flags.SortFlags = false
	on := func(value *bool, name, short, usage string) {
		flags.VarPF(boolValue{value}, name, short, usage).NoOptDefVal = "true"
	}

	flags.Var(durationValue{value: &config.Grace}, "grace", "`time` between a stop signal and SIGKILL; 0 kills at once")
	flags.Var((*commandsValue)(&config.OnStop), "on-stop",
		"`command` run at the beginning of a stop, while COMMAND still serves (repeatable: in the order given)")
	flags.Var(durationValue{value: &f.onStopLimit, positive: true}, "on-stop-timeout", "`time` that each of them may take")
	flags.Var(durationValue{value: &config.Drain}, "drain", "`time` between them and the signal, so that nobody asks COMMAND any more")
	flags.Var(scheduleValue{&config.Schedule}, "stop-schedule",
		"signals and times, instead of the signal that came and the grace: `TERM/10s/INT/5s/KILL`")
	flags.Var(rewriteValue{&config.Rewrite}, "rewrite",
		"pass a signal on as another, or not at all (0): `TERM=QUIT` (repeatable)")
	flags.Var(enumValue[runner.ForwardTo]{&config.ForwardTo, "addressee of signals", runner.ForwardTos()}, "forward-to",
		"`whom` signals are passed on to: group, or target, for programs that stop their own workers")
	on(&config.KillOnRepeat, "kill-on-repeat", "", "the second stop signal kills")
	flags.Var(durationValue{value: &config.Timeout}, "timeout", "`time` that COMMAND may run; then it is stopped, and the exit status is 124")
	flags.Var(durationValue{value: &config.Deadline}, "deadline", "`time` from a stop signal to our exit, cleanup commands included")
	flags.VarPF(parentValue{&config.DieWithParent, &config.Parent}, "die-with-parent", "",
		"stop when the process that started us has died, or the one with that pid: =$$").NoOptDefVal = "true"

	flags.Var((*commandsValue)(&config.OnExit), "on-exit",
		"cleanup `command`, run once when all is over: for a shell, or a JSON array of words (repeatable)")
	flags.Var(enumValue[cleanup.Order]{&config.Order, "order", cleanup.Orders()}, "on-exit-order",
		"`order` of the cleanup commands: lifo (the last one first), fifo, parallel")
	flags.Var(durationValue{value: &f.onExitLimit, positive: true}, "on-exit-timeout", "`time` that each cleanup command may take")

	flags.Var(enumValue[tree.Level]{&config.Contain, "level of containment", tree.Levels()}, "contain",
		"`level` at which descendants are held: auto, subreaper, group")
	flags.Var(enumValue[runner.Survivors]{&config.Survivors, "fate of survivors", runner.AllSurvivors()}, "survivors",
		"`what` becomes of processes that COMMAND leaves behind: stop, wait (for them), keep")

	on(&config.Reraise, "reraise", "", "end by the signal that ended COMMAND, and not with 128+n")
	flags.Var(remapValue{&config.Remap}, "remap-exit", "exit with another status than that: `143=0` (repeatable)")
	on(&config.FailOnCleanupError, "fail-on-cleanup-error", "", "exit with 125 when COMMAND succeeded and a cleanup command failed")

	on(&config.Verbose, "verbose", "v", "tell every step, with the time since the start")
	flags.Var(enumValue[logFormat]{&f.format, "form of messages", []logFormat{logText, logJSON}}, "log-format", "`form` of messages: text, json")
	flags.StringVar(&config.Report, "report", "", "`file` for a JSON object that tells how the run went")

	flags.Var(enumValue[runner.Guard]{&config.Guard, "guard", runner.Guards()}, "guard",
		"`whether` a second process finishes the run if graceful itself is killed: on, off, auto (on, but not as PID 1)")
	flags.StringVar(&config.StateDir, "state-dir", "",
		"`directory` to record the run in, for graceful recover, should all of graceful be killed or the machine stop")
	flags.StringVar(&config.Name, "name", "", "`name` of the run (default: COMMAND's file name); in a state directory one run\nof a name lives at a time, and finishes first what a killed one has left")
	return flags
}

// check makes one configuration of what was given, or says why that cannot be.
func (f *runFlags) check(given map[string]string) error {
	c := &f.config
	if given["grace"] != "" && given["stop-schedule"] != "" {
		return fmt.Errorf("%s: not together with %s: a schedule has its own times", given["grace"], given["stop-schedule"])
	}
	if c.Report != "" {
		path, err := filepath.Abs(c.Report)
		if err != nil {
			return fmt.Errorf("%s: %q: %w", given["report"], c.Report, err)
		}
		c.Report = path
	}
	if c.Deadline > 0 {
		b := f.budget(given)
		left, err := b.fit()
		if err != nil {
			return err
		}
		if given["grace"] == "" {
			c.Grace = left // whatever of it is still there when the signal is sent
		}
		if n := len(c.OnStop); n > 0 && given["on-stop-timeout"] == "" {
			// Commands that hang must not use up what the target has.
			f.onStopLimit = min(f.onStopLimit, max((left-c.Drain)/2/time.Duration(n), 1))
		}
	}
	for i := range c.OnStop {
		c.OnStop[i].Limit = f.onStopLimit
	}
	for i := range c.OnExit {
		c.OnExit[i].Limit = f.onExitLimit
	}
	return nil
}

// budget is what was said about the time that a stop takes.
func (f *runFlags) budget(given map[string]string) budget {
	c := f.config
	from := func(flag string) string {
		if given[flag] != "" {
			return given[flag]
		}
		return "the default of --" + flag
	}
	b := budget{
		deadline: c.Deadline, from: given["deadline"],
		onExit: times(len(c.OnExit), f.onExitLimit, c.Order == cleanup.Parallel, "on-exit", from("on-exit-timeout")),
	}
	if given["on-stop-timeout"] != "" {
		b.onStop = times(len(c.OnStop), f.onStopLimit, false, "on-stop", from("on-stop-timeout"))
	}
	if c.Drain > 0 {
		b.drain = []summand{{c.Drain, c.Drain.String() + " of drain", from("drain")}}
	}
	switch {
	case len(c.Schedule) > 0:
		sum := time.Duration(0)
		for _, step := range c.Schedule {
			sum = plus(sum, step.Wait)
		}
		b.signals = []summand{{sum, sum.String() + " of schedule", from("stop-schedule")}}
	case given["grace"] != "":
		b.signals = []summand{{c.Grace, c.Grace.String() + " of grace", from("grace")}}
	}
	return b
}

func (f *runFlags) run(args []string, given map[string]string, status *int) error {
	if len(args) == 0 {
		return errors.New("run: no command was given (graceful run [flags] -- COMMAND [ARG...])")
	}
	if err := f.check(given); err != nil {
		return err
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
