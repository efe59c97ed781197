package cmd

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/runner"
	"graceful/runner/tree"

	"github.com/spf13/cobra"
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
			ForwardTo: runner.ForwardToGroup, Survivors: runner.StopSurvivors, Defer: runner.DeferAuto,
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
		Long: `Run COMMAND in a process group of its own. SIGTERM, SIGINT and SIGQUIT begin its stop: they are
passed on, and what is still there when the grace is over gets SIGKILL. Every other signal is passed
on. Once COMMAND has ended, whatever it left behind is ended in the same way; then the cleanup
commands run, each once.

Exit status: COMMAND's own; 128+n if signal n ended it; 124 at the time limit; 127 if COMMAND was
not found, 126 if it could not be executed; 125 if graceful itself failed.

A time is 10s, 1m30s, or a number of seconds; a signal is TERM, SIGTERM, 15 or RTMIN+3. Each flag
can be given as a variable, --on-exit-order as GRACEFUL_ON_EXIT_ORDER; a flag counts for more. What
may be repeated as a flag stands in its variable once (a command) or with commas (FROM=TO). --no-env
reads no variable.`,
		RunE: func(c *cobra.Command, args []string) error {
			given, err := readVariables(c.Flags())
			if err != nil {
				return err
			}
			return f.run(args, given, status)
		},
	}
	c.Flags().SetInterspersed(false)
	describe(c, f.groups())
	c.ValidArgsFunction = completeCommand
	return c
}

// groups is the flags, by what they are about.
func (f *runFlags) groups() []flagGroup {
	config := &f.config

	stopping := newGroup("Stopping",
		"graceful run --on-stop ./leave --on-stop-timeout 5s --drain 3s --grace 20s -- ./serve",
		"graceful run --rewrite TERM=QUIT -- nginx -g 'daemon off;'",
		"graceful run --stop-schedule TERM/10s/INT/5s/KILL -- postgres -D data",
		"graceful run --deadline 10s --kill-on-repeat --forward-to target -- ./master",
		"graceful run --timeout 1h --die-with-parent -- make test")
	stopping.Var(durationValue{value: &config.Grace}, "grace", "time between a stop signal and SIGKILL; 0 kills at once")
	stopping.Var((*commandsValue)(&config.OnStop), "on-stop",
		"command to run when a stop begins, while the program still serves; given more than once, one after the other")
	stopping.Var(durationValue{value: &f.onStopLimit, positive: true}, "on-stop-timeout", "time that each of them may take")
	stopping.Var(durationValue{value: &config.Drain}, "drain",
		"time between them and the signal, in which callers learn to go elsewhere")
	stopping.Var(scheduleValue{&config.Schedule}, "stop-schedule",
		"schedule of signals and waits instead of the signal that came and the grace; SIGKILL comes last in any case")
	stopping.Var(rewriteValue{&config.Rewrite}, "rewrite",
		"pass a signal on as another one, with 0 not at all; may be repeated")
	stopping.Var(enumValue[runner.ForwardTo]{&config.ForwardTo, "WHOM", "receiver of signals", runner.ForwardTos()}, "forward-to",
		"whom signals are passed on to: group (the program's process group), target (the program alone, for one that stops its own workers)")
	stopping.on(&config.KillOnRepeat, "kill-on-repeat", "", "a second stop signal kills; during cleanup it ends the command that runs")
	stopping.Var(durationValue{value: &config.Timeout}, "timeout",
		"time that the program may run; then it is stopped, and the status is 124; 0 is no limit")
	stopping.Var(durationValue{value: &config.Deadline}, "deadline",
		"time from the beginning of a stop to our exit, cleanup included; 0 is no limit")
	stopping.VarPF(parentValue{&config.DieWithParent, &config.Parent}, "die-with-parent", "",
		"take the death of the process that started us for SIGTERM; with its pid (=$$) also when it died before we began").NoOptDefVal = "true"

	cleaning := newGroup("Cleaning up",
		"graceful run --on-exit ./flush.sh --on-exit '[\"rm\", \"-rf\", \"/scratch/7\"]' -- make",
		"graceful run --on-exit-order parallel --on-exit-timeout 5s --on-exit ./a --on-exit ./b -- ./c",
		"graceful run --defer off -- ./untrusted")
	cleaning.Var((*commandsValue)(&config.OnExit), "on-exit",
		"command to run once when all is over, for a shell, or a JSON array of words; may be repeated")
	cleaning.Var(enumValue[cleanup.Order]{&config.Order, "ORDER", "order", cleanup.Orders()}, "on-exit-order",
		"order of the cleanup commands: lifo (the last one first), fifo, parallel")
	cleaning.Var(durationValue{value: &f.onExitLimit, positive: true}, "on-exit-timeout", "time that each cleanup command may take")

	cleaning.Var(enumValue[runner.Defer]{&config.Defer, "WHETHER", "admission", runner.Defers()}, "defer",
		"which processes of the run may register cleanup commands: auto (those with all the rights that graceful has), on (all of the same user), off (none)")

	held := newGroup("The tree of processes", "graceful run --contain subreaper --survivors wait -- ./start-workers")
	held.Var(enumValue[tree.Level]{&config.Contain, "LEVEL", "level of containment", tree.Levels()}, "contain",
		"level at which descendants are held: "+strings.Join(texts(tree.Levels()), ", "))
	held.Var(enumValue[runner.Survivors]{&config.Survivors, "WHAT", "fate of survivors", runner.AllSurvivors()}, "survivors",
		"what becomes of processes that the program leaves behind: stop (end them), wait (for them to end), keep (leave them alone)")

	own := newGroup("The terminal", "graceful run --pty -- npm test")
	own.on(&config.PTY, "pty", "", "give the program a terminal of its own, also where there is none: colours, line by line output")

	status := newGroup("Exit status",
		"graceful run --remap-exit 143=0 --fail-on-cleanup-error --on-exit ./flush.sh -- ./serve",
		"graceful run --reraise -- ./job")
	status.on(&config.Reraise, "reraise", "", "end by the signal that ended the program, instead of with 128+n")
	status.Var(remapValue{&config.Remap}, "remap-exit", "exit with another status, 0 to 255; may be repeated")
	status.on(&config.FailOnCleanupError, "fail-on-cleanup-error", "",
		"exit with 125 when the program succeeded and a cleanup command failed")

	output := newGroup("Output", "graceful run --verbose --log-format json --report run.json -- ./job")
	output.on(&config.Verbose, "verbose", "v", "tell every step, with the time since the start")
	output.Var(enumValue[logFormat]{&f.format, "FORM", "form of messages", logFormats}, "log-format", "form of messages: text, json")
	output.Var(textValue{&config.Report, "FILE"}, "report", "file for a JSON object that tells at the end how it went")

	alive := newGroup("Staying alive",
		"graceful run --guard on --state-dir /var/lib/graceful --name deploy -- ./deploy.sh",
		"graceful run --strict-state-dir --state-dir /var/lib/graceful -- ./job")
	alive.Var(enumValue[runner.Guard]{&config.Guard, "WHETHER", "guard", runner.Guards()}, "guard",
		"whether a second process finishes the run if graceful itself is killed: on, off, auto (on, but not as PID 1)")
	alive.Var(textValue{&config.StateDir, "DIR"}, "state-dir",
		"directory to record the run in, for graceful recover, should all of graceful be killed or the machine stop")
	alive.on(&config.StrictStateDir, "strict-state-dir", "",
		"refuse a state directory that another user can replace, through a parent of it, instead of warning")
	alive.Var(textValue{&config.Name, "NAME"}, "name",
		"name of the run (default: that of the program's file); in a state directory one run of a name lives at a time, and finishes first what a killed one has left")

	return []flagGroup{stopping, cleaning, held, own, status, output, alive, environmentGroup("graceful run --no-env -- ./job")}
}

// check makes one configuration of what was given, or says why that cannot be.
func (f *runFlags) check(given map[string]string) error {
	c := &f.config
	if given["grace"] != "" && given["stop-schedule"] != "" {
		return fmt.Errorf("%s: not together with %s: a schedule has its own times", given["grace"], given["stop-schedule"])
	}
	if c.Report != "" {
		dir := "/"
		if !filepath.IsAbs(c.Report) {
			var err error
			if dir, err = syscall.Getwd(); err != nil { // not filepath.Abs: PWD may lead there by links of other users
				return fmt.Errorf("%s: %q: %w", given["report"], c.Report, err)
			}
		}
		c.Report = filepath.Join(dir, c.Report)
	}
	if c.Deadline > 0 {
		b := f.budget(given)
		left, err := b.fit()
		if err != nil {
			return err
		}
		c.Unsignalled = plus(total(b.onStop), total(b.drain))
		c.Asked = plus(c.Unsignalled, total(b.signals))
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
	c.OnExitLimit = f.onExitLimit
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
	log := newLogger(out, f.config, time.Now())
	result, err := runner.Do(f.config, log)
	if err != nil {
		log.Error(err.Error())
	}
	*status = result.Status
	if result.Raise != 0 {
		out.flush()
		runner.EndBy(syscall.Signal(result.Raise))
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
	out.raw = c.PTY
	if out.json = c.LogJSON; out.json {
		return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(&textHandler{out: out, level: level, began: began})
}
