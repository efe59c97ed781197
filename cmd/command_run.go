package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner"
	"graceful/runner/machine"
	"graceful/runner/notify"
	"graceful/runner/process"
	"graceful/runner/tree"
)

// runFlags holds the flags of run.
type runFlags struct {
	runner.Config
	onStopLimit time.Duration
	outer       outerBudget

	killOnRepeat bool // --kill-on-repeat, a hidden flag of earlier versions

	variablesIgnored bool
}

// newRunFlags returns the flags with their default values.
func newRunFlags() *runFlags {
	return &runFlags{
		Config: runner.Config{
			Contain: tree.Auto, Guard: runner.GuardAuto, Defer: runner.DeferAuto, Notify: notify.Auto,
			Policy: machine.Policy{
				Grace: 10 * time.Second, Order: cleanup.LIFO, OnExitLimit: 30 * time.Second,
				ForwardTo: machine.ForwardToGroup, Survivors: machine.StopSurvivors,
				StopOn: numbers(forward.StopSignals()), OnRepeat: machine.RepeatForward,
			},
		},
		onStopLimit: 10 * time.Second,
	}
}

func newRun(status *int) *cobra.Command {
	f := newRunFlags()
	var given map[string]string
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run COMMAND, stop it properly, leave nothing behind",
		Long: `Run COMMAND, the target, in a process group of its own. SIGTERM, SIGINT and SIGQUIT stop it:
graceful forwards the signal, and sends SIGKILL to what is left at the end of the grace period. It
forwards every other signal. When the target has ended, graceful stops the processes that it left
behind in the same way, then runs each cleanup command once. Flags end at the first argument that is
not a flag.

Exit status: that of the target; 128+n if signal n ended it; 124 after --timeout (137 if SIGKILL was
needed); 127 if COMMAND was not found, 126 if it could not be executed; 125 if graceful itself
failed.

A time is 10s, 1m30s, or a number of seconds (2.5). A signal is TERM, SIGTERM, 15 or RTMIN+3. Each
flag has a variable: for --on-exit-order, GRACEFUL_ON_EXIT_ORDER. A flag overrides its variable. The
variable of a flag that may be repeated holds one command, or pairs FROM=TO with commas between
them. --no-env ignores all variables.`,
		RunE: func(c *cobra.Command, args []string) error {
			f.variablesIgnored = ignoresVariables(c.Flags())
			return f.run(args, given, status)
		},
		ValidArgsFunction: completeCommand,
	}
	c.Flags().SetInterspersed(false)
	given = addFlagGroups(c, f.groups()...)
	return c
}

// groups returns the flags by subject.
func (f *runFlags) groups() []flagGroup {
	processTree := newGroup("Process tree", "graceful run --contain subreaper --survivors wait -- ./start-workers")
	processTree.Var(enumValue(&f.Contain, "LEVEL", "level of containment", tree.Levels()), "contain",
		"level of containment of the target's descendants: auto, subreaper, group, cgroup")
	processTree.Var(enumValue(&f.Survivors, "WHAT", "fate of survivors", machine.SurvivorsValues()), "survivors",
		"what to do with processes that the target leaves behind: stop (end them), wait (until they end), "+
			"keep (leave them alone)")
	terminal := newGroup("Terminal", "graceful run --pty -- npm test")
	terminal.addSwitch(&f.PTY, "pty",
		"give the target a terminal of its own, also where there is none: colours, line by line output")
	status := newGroup("Exit status",
		"graceful run --timeout 1h --preserve-status -- ./job",
		"graceful run --remap-exit 143=0 --fail-on-cleanup-error --on-exit ./flush.sh -- ./serve",
		"graceful run --reraise -- ./job")
	status.addSwitch(&f.PreserveStatus, "preserve-status", "exit with the target's own status at its time limit, too")
	status.addSwitch(&f.Reraise, "reraise", "end by the signal that ended the target, instead of with 128+n")
	status.Var(remapValue(&f.Remap), "remap-exit", "exit with another status, 0 to 255; may be repeated")
	status.addSwitch(&f.FailOnCleanupError, "fail-on-cleanup-error",
		"exit with 125 if the target succeeded and a cleanup command failed")
	output := newGroup("Output", "graceful run --verbose --log-format json --report run.json -- ./job",
		"graceful run --quiet --annotations off -- ./job")
	output.addLogFlags(&f.Config)
	output.Var(textValue(&f.Report, "FILE", nil), "report",
		"file for a report on the run, in JSON, written at its end")
	manager := newGroup("Service manager", "graceful run --notify off -- ./serve")
	manager.Var(enumValue(&f.Notify, "WHETHER", "relay", notify.Choices()), "notify",
		"whether messages of the run's processes to the service manager (sd_notify) pass on as graceful's: auto, off")
	return []flagGroup{
		f.stopping(), f.cleaningUp(), processTree, terminal, status, output, manager, f.afterKill(),
		environmentGroup("graceful run --no-env -- ./job"),
	}
}

func (f *runFlags) stopping() flagGroup {
	g := newGroup("Stopping",
		"graceful run --on-stop ./leave --on-stop-timeout 5s --drain 3s --grace 20s -- ./serve",
		"graceful run --rewrite TERM=QUIT -- nginx -g 'daemon off;'",
		"graceful run --stop-schedule TERM/10s/INT/5s/KILL -- postgres -D data",
		"graceful run --deadline 10s --on-repeat kill --forward-to target -- ./master",
		"graceful run --stop-on WINCH,TERM --on-repeat ignore -- httpd -DFOREGROUND",
		"graceful run --timeout 1h --die-with-parent -- make test")
	g.Var(durationValue(&f.Grace), "grace", "time between a stop signal and SIGKILL; 0 kills at once")
	g.Var(commandsValue(&f.OnStop), "on-stop",
		"command to run when a stop begins, while the target still serves; may be repeated: one runs after the other")
	g.Var(positiveDurationValue(&f.onStopLimit), "on-stop-timeout", "time limit of each --on-stop command")
	g.Var(durationValue(&f.Drain), "drain",
		"time between the --on-stop commands and the stop signal, for clients to go elsewhere")
	g.Var(scheduleValue(&f.Schedule), "stop-schedule",
		"signals and waits that replace the received stop signal and the grace; SIGKILL always comes last")
	g.Var(rewriteValue(&f.Rewrite), "rewrite", "forward a signal as another one; 0 drops it; may be repeated")
	g.Var(enumValue(&f.ForwardTo, "RECEIVER", "receiver of signals", machine.ForwardTos()), "forward-to",
		"receiver of signals: group (the target's process group), target (it alone, if it stops its own workers)")
	g.Var(stopOnValue(&f.StopOn), "stop-on",
		"signals that begin a stop, with commas between them; every other one is only forwarded")
	g.Var(enumValue(&f.OnRepeat, "WHAT", "answer to a repeated stop signal", machine.OnRepeatValues()), "on-repeat",
		"what a repeated stop signal does: forward (forward it, too), ignore (nothing), "+
			"kill (kill the tree; during cleanup, end the running command)")
	g.addSwitch(&f.killOnRepeat, "kill-on-repeat", "the same as --on-repeat kill")
	g.hide("kill-on-repeat")
	g.Var(durationValue(&f.Timeout), "timeout",
		"time limit of the target, and of survivors that are waited for; then graceful stops them and exits with "+
			"124, or 137 if SIGKILL was needed; 0 is no limit")
	g.Var(durationValue(&f.Deadline), "deadline",
		"time limit from the beginning of a stop to graceful's exit, cleanup included; 0 is no limit")
	g.VarPF(parentValue(&f.DieWithParent, &f.Parent), "die-with-parent", "",
		"treat the death of the process that started graceful as SIGTERM; with its pid (=$$), "+
			"also if it died before graceful started").NoOptDefVal = "true"
	return g
}

func (f *runFlags) cleaningUp() flagGroup {
	g := newGroup("Cleaning up",
		"graceful run --on-exit ./flush.sh --on-exit '[\"rm\", \"-rf\", \"/scratch/7\"]' -- make",
		"graceful run --on-exit-order parallel --on-exit-timeout 5s --on-exit ./a --on-exit ./b -- ./c",
		"graceful run --defer off -- ./untrusted",
		"graceful run --defer-timeout-max 10m -- ./deploy.sh")
	g.Var(commandsValue(&f.OnExit), "on-exit",
		"command to run once at the end of the run, for a shell, or as a JSON array of strings; may be repeated")
	g.Var(enumValue(&f.Order, "ORDER", "order", cleanup.Orders()), "on-exit-order",
		"order of the cleanup commands: lifo (the last one first), fifo, parallel")
	g.Var(positiveDurationValue(&f.OnExitLimit), "on-exit-timeout", "time limit of each cleanup command")
	g.Var(enumValue(&f.Defer, "WHETHER", "admission", runner.DeferValues()), "defer",
		"processes of the run that may register cleanup commands: auto (those of the same user and of root that have "+
			"all rights of graceful), on (all of the same user and of root), off (none)")
	g.Var(durationValue(&f.DeferLimit), "defer-timeout-max",
		"longest time limit that a registered command gets; 0 is that of --on-exit-timeout")
	return g
}

func (f *runFlags) afterKill() flagGroup {
	g := newGroup("When graceful is killed",
		"graceful run --guard on --state-dir /var/lib/graceful --name deploy -- ./deploy.sh",
		"graceful run --strict-state-dir --state-dir /var/lib/graceful -- ./job",
		"graceful run --state-dir /var/lib/graceful --name backup --wait-for-name 10m -- ./backup.sh")
	g.Var(enumValue(&f.Guard, "WHETHER", "guard", runner.Guards()), "guard",
		"whether a small process finishes the run if graceful is killed: on, off, auto (on, but off as PID 1)")
	g.Var(textValue(&f.StateDir, "DIR", completeDirectory), "state-dir",
		"directory to record the run in, so that graceful recover can finish it after all of graceful is killed, "+
			"or the machine stops")
	g.addSwitch(&f.StrictStateDir, "strict-state-dir",
		"refuse a state directory that another user can replace, through a parent of it, instead of warning")
	g.Var(textValue(&f.Name, "NAME", cobra.NoFileCompletions), "name",
		"name of the run (default: the target's file name); a new run in a state directory first finishes what "+
			"killed ones of its name left; of a name that was given, one run lives at a time")
	g.Var(durationValue(&f.WaitForName), "wait-for-name",
		"how long to wait for the end of a live run of that --name, instead of exiting with 125")
	return g
}

// check completes the configuration from combinations of flags. It returns an error if flags conflict. given maps each
// flag that was set to its source (see readVariables).
func (f *runFlags) check(given map[string]string) error {
	if given["grace"] != "" && given["stop-schedule"] != "" {
		return fmt.Errorf("%s: not together with %s: a schedule has its own times",
			given["grace"], given["stop-schedule"])
	}
	if given["wait-for-name"] != "" && f.WaitForName > 0 && (f.StateDir == "" || f.Name == "") {
		return fmt.Errorf("%s: without --state-dir and --name no other run is waited for", given["wait-for-name"])
	}
	if f.Report != "" {
		dir := "/"
		if !filepath.IsAbs(f.Report) {
			var err error
			if dir, err = syscall.Getwd(); err != nil { // filepath.Abs would use PWD, which may contain links of other users
				return fmt.Errorf("%s: %q: %w", given["report"], f.Report, err)
			}
		}
		f.Report = filepath.Join(dir, f.Report)
	}
	if err := checkLogFlags(f.Config, given); err != nil {
		return err
	}
	typed := func(flag string) bool { return strings.HasPrefix(given[flag], "--") }
	if f.killOnRepeat && (given["on-repeat"] == "" || typed("kill-on-repeat") && !typed("on-repeat")) {
		f.OnRepeat = machine.RepeatKill
	}
	if given["stop-on"] != "" {
		f.StopsOnIgnored = true
	}
	fromOuter, err := f.fitIntoOuter(given)
	if err != nil {
		return err
	}
	if f.Deadline > 0 && !fromOuter {
		b := f.budget(given)
		left, err := b.fit()
		if err != nil {
			return err
		}
		f.TimeBeforeSignal = total(b.beforeSignal)
		f.ReservedTime = machine.AddDurations(f.TimeBeforeSignal, total(b.signals))
		if given["grace"] == "" {
			f.Grace = left // the deadline timer ends the grace earlier if on-stop commands or the drain take time
		}
		if n := len(f.OnStop); n > 0 && given["on-stop-timeout"] == "" {
			// Leave half of the time to the target, even if every on-stop command hangs.
			f.onStopLimit = min(f.onStopLimit, max((left-f.Drain)/2/time.Duration(n), 1))
		}
	}
	for i := range f.OnStop {
		f.OnStop[i].Limit = f.onStopLimit
	}
	for i := range f.OnExit {
		f.OnExit[i].Limit = f.OnExitLimit
	}
	return nil
}

func (f *runFlags) run(args []string, given map[string]string, status *int) error {
	if len(args) == 0 {
		return errors.New("run: no command was given (graceful run [flags] -- COMMAND [ARG...])")
	}
	if err := f.check(given); err != nil {
		return err
	}
	f.Command, f.Env, f.Named = args, targetEnviron(os.Environ()), f.Name != ""
	f.Name = cmp.Or(f.Name, filepath.Base(args[0]))
	out := newOutput(syscall.Stderr)
	defer out.flush()
	log := newLogger(out, f.Config, time.Now())
	for _, typed := range f.outer.tooLongTimes {
		log.Warn("shortened for the outer run", "what", typed, "budget", f.outer.budget,
			"err", "it allows no more time for a stop", "hint", "see "+machine.StopBudget)
	}
	result, err := runner.Do(f.Config, log)
	if err != nil {
		log.Error(messageRun, "err", err)
	}
	*status = result.Status
	if result.RaisedSignal != 0 {
		out.flush()
		process.EndBy(syscall.Signal(result.RaisedSignal))
	}
	return nil
}

// takeOver resumes a run in a process that the guard has started, and returns the exit status. args are the arguments
// of this process after its name.
func takeOver(args []string) int {
	out := newOutput(syscall.Stderr)
	defer out.flush()
	log := newLogger(out, runner.Config{}, time.Now())
	status, err := runner.TakeOver(args, func(c runner.Config, began time.Time) *slog.Logger {
		log = newLogger(out, c, began)
		return log
	}, out.flush)
	if err != nil {
		log.Error(messageTakeOver, "err", fmt.Errorf("taking over a run: %w", err))
	}
	return status
}
