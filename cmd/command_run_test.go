package cmd

import (
	"maps"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"graceful/cleanup"
	"graceful/runner"
	"graceful/runner/machine"
	"graceful/runner/tree"
)

// environment maps names of graceful's variables to values.
type environment map[string]string

// set sets the variables for a test, after unsetVariables.
func (e environment) set(t *testing.T) {
	t.Helper()
	unsetVariables(t)
	for name, value := range e {
		t.Setenv(name, value)
	}
}

func (e environment) String() string {
	var all []string
	for name, value := range e {
		all = append(all, name+"="+value)
	}
	return strings.Join(all, " ")
}

// The flags of run have the defaults that the guide documents.
func TestRunFlags_defaults(t *testing.T) {
	flags := newRun(new(int)).Flags()
	for name, want := range map[string]string{
		"grace": "10s", "on-exit-timeout": "30s", "on-exit-order": string(cleanup.LIFO), "contain": string(tree.Auto),
		"verbose": "false", "log-format": "text", "on-exit": "", "name": "",
	} {
		if got := flags.Lookup(name).DefValue; got != want {
			t.Errorf("--%s is %q, want %q", name, got, want)
		}
	}
}

// parsedRunFlags returns the flags of run as parsed from args and the environment, before check.
func parsedRunFlags(t *testing.T, args string) (f *runFlags, given map[string]string) {
	t.Helper()
	f = newRunFlags()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, g := range f.groups() {
		flags.AddFlagSet(g.FlagSet)
	}
	if err := flags.Parse(strings.Fields(args)); err != nil {
		t.Fatal(err)
	}
	given = map[string]string{}
	if err := readVariables(flags, given); err != nil {
		t.Fatal(err)
	}
	return f, given
}

func TestRunFlagsCheck(t *testing.T) {
	for _, c := range []struct {
		args string
		env  environment
		want func(runner.Config) bool
	}{
		{args: "--on-stop a --on-stop b --on-stop-timeout 3s --on-exit c", want: func(c runner.Config) bool {
			return c.OnStop[0].Limit == 3*s && c.OnStop[1].Limit == 3*s && c.OnExit[0].Limit == 30*s
		}},
		{args: "--on-stop a", want: func(c runner.Config) bool { return c.OnStop[0].Limit == 10*s }},
		{args: "--deadline 10s", want: func(c runner.Config) bool { return c.Grace == 9*s }},
		{args: "--deadline 10s --grace 2s", want: func(c runner.Config) bool { return c.Grace == 2*s }},
		{args: "--deadline 10s", env: environment{"GRACEFUL_GRACE": "3s"},
			want: func(c runner.Config) bool { return c.Grace == 3*s }},
		{args: "--deadline 10s --on-stop a --on-stop b --drain 1s", // if these hang, half of the time is left
			want: func(c runner.Config) bool { return c.OnStop[0].Limit == 2*s && c.Grace == 9*s }},
		{args: "--deadline 10m --on-stop a", want: func(c runner.Config) bool { return c.OnStop[0].Limit == 10*s }},
		{args: "--report r.json", want: func(c runner.Config) bool {
			return strings.HasPrefix(c.Report, "/") && strings.HasSuffix(c.Report, "/cmd/r.json")
		}},
		{args: "--report /r.json", want: func(c runner.Config) bool { return c.Report == "/r.json" }},
		{args: "--die-with-parent=77", want: func(c runner.Config) bool { return c.DieWithParent && c.Parent == 77 }},
		{args: "--die-with-parent", want: func(c runner.Config) bool { return c.DieWithParent && c.Parent == 0 }},
		{args: "--rewrite HUP=0 --rewrite TERM=QUIT",
			env: environment{"GRACEFUL_REWRITE": "INT=0", "GRACEFUL_REMAP_EXIT": "1=2,3=4"},
			want: func(c runner.Config) bool {
				return maps.Equal(c.Rewrite, map[int]int{1: 0, 15: 3}) && maps.Equal(c.Remap, map[int]int{1: 2, 3: 4})
			}},
		{args: "--on-repeat ignore", env: environment{"GRACEFUL_KILL_ON_REPEAT": "1"},
			want: func(c runner.Config) bool { return c.OnRepeat == machine.RepeatIgnore }},
		{args: "--kill-on-repeat", env: environment{"GRACEFUL_ON_REPEAT": "ignore"},
			want: func(c runner.Config) bool { return c.OnRepeat == machine.RepeatKill }},
		{env: environment{"GRACEFUL_KILL_ON_REPEAT": "1", "GRACEFUL_RERAISE": "true", "GRACEFUL_SURVIVORS": "wait"},
			want: func(c runner.Config) bool {
				return c.OnRepeat == machine.RepeatKill && c.Reraise && c.Survivors == machine.WaitSurvivors
			}},
	} {
		t.Run(c.args, func(t *testing.T) {
			c.env.set(t)
			f, given := parsedRunFlags(t, c.args)
			if err := f.check(given); err != nil || !c.want(f.Config) {
				t.Errorf("the configuration is %+v, %v", f.Config, err)
			}
			if f.Config.Deadline > 0 && given["grace"] == "" && f.Config.Grace != f.Config.StoppingTime() {
				t.Errorf("the grace is %v, and the time for stopping is %v", f.Config.Grace, f.Config.StoppingTime())
			}
		})
	}
}

// Contradicting flags are refused. The error names the flags or variables that contradict each other.
func TestRunFlagsCheck_contradiction(t *testing.T) {
	for _, c := range []struct {
		args string
		env  environment
		want string
	}{
		{args: "--grace 5s --stop-schedule 5s",
			want: "--grace: not together with --stop-schedule: a schedule has its own times"},
		{args: "--stop-schedule 5s", env: environment{"GRACEFUL_GRACE": "1s"},
			want: "GRACEFUL_GRACE: not together with --stop-schedule: a schedule has its own times"},
		{args: "--deadline 10s --on-exit a",
			want: "--deadline: a stop takes longer than 10s: " +
				"30s for an on-exit command (the default of --on-exit-timeout) = 30s"},
		{args: "--on-exit-timeout 2s --stop-schedule TERM/5s/INT/4s/KILL --on-exit a",
			env: environment{"GRACEFUL_DEADLINE": "10"},
			want: "GRACEFUL_DEADLINE: a stop takes longer than 10s: " +
				"9s of schedule (--stop-schedule) + 2s for an on-exit command (--on-exit-timeout) = 11s"},
		{args: "--deadline 5s --drain 5s",
			want: "--deadline: 5s leaves no time for the target: " +
				"5s of drain (--drain) + 500ms for graceful itself = 5.5s"},
	} {
		t.Run(c.args, func(t *testing.T) {
			c.env.set(t)
			f, given := parsedRunFlags(t, c.args)
			if err := f.check(given); err == nil || err.Error() != c.want {
				t.Errorf("the error is %v\nwant %s", err, c.want)
			}
		})
	}
}

// The error for an invalid value names its flag or variable. The test gives no COMMAND, so a missing error starts
// nothing.
func TestRunFlags_invalid(t *testing.T) {
	const noCommand = "run: no command was given (graceful run [flags] -- COMMAND [ARG...])"
	for _, c := range []struct {
		args string // after graceful run
		env  environment
		want string
	}{
		{"--grace soon", nil, `--grace: "soon" is not a time (10s, 1m30s, 500ms)`},
		{"--grace=-1s", nil, `--grace: "-1s" is less than 0`},
		{"--on-exit-timeout 0", nil, "--on-exit-timeout: the time must be more than 0"},
		{"--on-exit-order up", nil, `--on-exit-order: "up" is not a valid order (lifo, fifo, parallel)`},
		{"--contain jail", nil, `--contain: "jail" is not a valid level of containment (auto, subreaper, group, cgroup)`},
		{"--log-format xml", nil, `--log-format: "xml" is not a valid form of messages (text, json)`},
		{"--on-exit [1]", nil, `--on-exit: "[1]": not a JSON array of strings: `},
		{"--verbose=loud", nil, `--verbose: "loud" is neither true nor false`},
		{"--gracious", nil, "--gracious: there is no such flag (see graceful run --help)"},
		{"-vx", nil, "-x: there is no such flag (see graceful run --help)"},
		{"--grace", nil, "flag needs an argument: --grace (see graceful run --help)"},
		{"", environment{"GRACEFUL_GRACE": "soon"}, `GRACEFUL_GRACE: "soon" is not a time (10s, 1m30s, 500ms)`},
		{"", environment{"GRACEFUL_ON_EXIT_ORDER": "up"},
			`GRACEFUL_ON_EXIT_ORDER: "up" is not a valid order (lifo, fifo, parallel)`},
		{"", environment{"GRACEFUL_VERBOSE": "loud"}, `GRACEFUL_VERBOSE: "loud" is neither true nor false`},
		{"", environment{"GRACEFUL_GRACE": "soon", "GRACEFUL_VERBOSE": "loud"}, // an error for each invalid variable
			"GRACEFUL_GRACE: \"soon\" is not a time (10s, 1m30s, 500ms)\n" +
				"GRACEFUL_VERBOSE: \"loud\" is neither true nor false"},
		{"--grace 1s", environment{"GRACEFUL_GRACE": "soon"}, noCommand}, // a flag overrides its variable
		{"", environment{"GRACEFUL_GRACE": ""}, noCommand},               // an empty variable is not set
		{"", nil, noCommand},
	} {
		t.Run(c.args+c.env.String(), func(t *testing.T) {
			c.env.set(t)
			root := newRoot(new(int))
			root.SetArgs(append([]string{"run"}, strings.Fields(c.args)...))
			if err := root.Execute(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("the error is %v\nwant %s", err, c.want)
			}
		})
	}
}
