package cmd

import (
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"graceful/runner"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

const s = time.Second

func TestSchedules(t *testing.T) {
	step := func(sig int, wait time.Duration) runner.Step { return runner.Step{Signal: sig, Wait: wait} }
	const term, hup, quit, none = int(unix.SIGTERM), int(unix.SIGINT), int(unix.SIGQUIT), runner.NoSignal
	for text, want := range map[string][]runner.Step{
		"TERM/3s/INT/5s/QUIT/2s/KILL": {step(term, 3*s), step(hup, 5*s), step(quit, 2*s)},
		"TERM/3s/INT/5s/QUIT/2s":      {step(term, 3*s), step(hup, 5*s), step(quit, 2*s)}, // KILL comes anyway
		"sigterm/3/-INT/5/-3/2/-9":    {step(term, 3*s), step(hup, 5*s), step(quit, 2*s)}, // start-stop-daemon's way
		"TERM/3/KILL/5":               {step(term, 3*s)},
		"10":                          {step(0, 10*s)},
		"1m30s":                       {step(0, 90*s)},
		"0":                           {step(0, 0)},
		"10/TERM/5":                   {step(none, 10*s), step(term, 5*s)},
		"10/KILL":                     {step(none, 10*s)},
		"2/3":                         {step(none, 5*s)},
		"KILL":                        {step(none, 0)},
		"KILL/5":                      {step(none, 0)},
		"TERM":                        {step(term, 0)},
		"TERM/INT/2/3/RTMIN+3/500ms":  {step(term, 0), step(hup, 5*s), step(37, s/2)},
	} {
		if strings.Contains(text, "RTMIN") && runtime.GOOS != "linux" {
			continue
		}
		if got, err := parseSchedule(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s is %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                  "it is empty (TERM/10s/INT/5s/KILL)",
		"/":                 "there is nothing between two slashes, or beside one (TERM/10s/INT/5s/KILL)",
		"TERM/":             "there is nothing between two slashes, or beside one (TERM/10s/INT/5s/KILL)",
		"TERM//KILL":        "there is nothing between two slashes, or beside one (TERM/10s/INT/5s/KILL)",
		"TREM/5s":           `"TREM" is neither a signal nor a time (did you mean TERM?)`,
		"SIGTREM/5s":        `"SIGTREM" is neither a signal nor a time (did you mean TERM?)`,
		"-SIGQIUT":          `"-SIGQIUT" is neither a signal nor a time (did you mean QUIT?)`,
		"TERM/5 s":          `"5 s" is neither a signal nor a time (did you mean 5s?)`,
		"TERM/-5s":          `"-5s" is neither a signal nor a time`,
		"TERM/soon":         `"soon" is neither a signal nor a time`,
		"TERM/forever/KILL": `"forever" is refused: a stop must end; give a time`,
		"KILL/5s/TERM":      "after KILL nothing can come but one time, as nothing is left to be stopped",
		"KILL/5s/5s":        "after KILL nothing can come but one time, as nothing is left to be stopped",
		"KILL/KILL":         "after KILL nothing can come but one time, as nothing is left to be stopped",
		"STOP/5s":           "STOP stops nothing for good: what is stopped cannot end",
	} {
		if got, err := parseSchedule(text); err == nil || err.Error() != want {
			t.Errorf("%s is %v, %v; want the error %s", text, got, err, want)
		}
	}
}

func TestRewritings(t *testing.T) {
	for text, want := range map[string]map[int]int{
		"TERM=QUIT":             {15: 3},
		"15=3":                  {15: 3},
		"SIGTERM=SIGQUIT,HUP=0": {15: 3, 1: 0},
		"INT=TERM  USR1=none":   {2: 15, int(unix.SIGUSR1): 0},
		"TERM=KILL":             {15: 9},
		"RTMIN+1=USR1":          {35: int(unix.SIGUSR1)},
	} {
		if strings.Contains(text, "RTMIN") && runtime.GOOS != "linux" {
			continue
		}
		var got map[int]int
		if err := (rewriteValue{&got}).Set(text); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s is %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                    "it is empty (TERM=QUIT, or HUP=0 to drop it)",
		"TERM":                `"TERM" is no FROM=TO (TERM=QUIT, or HUP=0 to drop it)`,
		"15:3":                `"15:3" is no FROM=TO (TERM=QUIT, or HUP=0 to drop it)`,
		"TREM=QUIT":           `"TREM=QUIT": "TREM" is no signal (did you mean TERM?)`,
		"TERM=QIUT":           `"TERM=QIUT": "QIUT" is no signal (did you mean QUIT?)`,
		"TERM=":               `"TERM=": "" is no signal`,
		"TERM=nothing":        `"TERM=nothing": "nothing" is no signal`,
		"0=TERM":              `"0=TERM": "0" is no signal`,
		"PIPE=TERM":           `"PIPE=TERM": PIPE is graceful's own and never passed on`,
		"CLD=TERM":            `"CLD=TERM": CHLD is graceful's own and never passed on`,
		"KILL=TERM":           `"KILL=TERM": KILL cannot be caught`,
		"SEGV=TERM":           `"SEGV=TERM": SEGV cannot be caught`,
		"TERM=INT,15=QUIT":    `"15=QUIT": TERM has been given before`,
		"TERM=INT SIGTERM=15": `"SIGTERM=15": TERM has been given before`,
	} {
		var got map[int]int
		if err := (rewriteValue{&got}).Set(text); err == nil || err.Error() != want {
			t.Errorf("%s is %v, %v; want the error %s", text, got, err, want)
		}
	}
}

func TestStatusesThatAreChanged(t *testing.T) {
	var got map[int]int
	v := remapValue{&got}
	for _, text := range []string{"143=0", "130=0 255=1"} {
		if err := v.Set(text); err != nil {
			t.Fatal(err)
		}
	}
	if want := map[int]int{143: 0, 130: 0, 255: 1}; !maps.Equal(got, want) {
		t.Errorf("they are %v, want %v", got, want)
	}
	for text, want := range map[string]string{
		"":      "it is empty (143=0)",
		"143":   `"143" is no FROM=TO (143=0)`,
		"256=0": `"256=0": "256" is no exit status (0 to 255)`,
		"1=-1":  `"1=-1": "-1" is no exit status (0 to 255)`,
		"TERM=": `"TERM=": "TERM" is no exit status (0 to 255)`,
		"143=1": `"143=1": 143 has been given before`,
	} {
		if err := v.Set(text); err == nil || err.Error() != want {
			t.Errorf("%s: the error is %v, want %s", text, err, want)
		}
	}
}

func TestAParentIsASwitchOrAProcess(t *testing.T) {
	for text, want := range map[string]string{"true": "true", "1": "true", "false": "false", "0": "false", "4711": "4711", "2": "2"} {
		var on bool
		pid := 99
		v := parentValue{&on, &pid}
		if err := v.Set(text); err != nil || v.String() != want || want == "true" && pid != 0 {
			t.Errorf("%s is %s (%d), %v", text, v, pid, err)
		}
	}
	for _, text := range []string{"", "-3", "maybe", "99999999999"} {
		if err := (parentValue{new(bool), new(int)}).Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestWhatADeadlineLeaves(t *testing.T) {
	exit := func(n int, limit time.Duration, parallel bool) []summand {
		return times(n, limit, parallel, "on-exit", "--on-exit-timeout")
	}
	stop := func(n int, limit time.Duration) []summand {
		return times(n, limit, false, "on-stop", "--on-stop-timeout")
	}
	part := func(d time.Duration, from string) []summand { return []summand{{d, d.String() + " of it", from}} }
	for _, c := range []struct {
		budget
		left time.Duration
		err  string
	}{
		{budget: budget{deadline: 10 * s}, left: 9 * s},
		{budget: budget{deadline: 4 * s}, left: 3600 * time.Millisecond},
		{budget: budget{deadline: 60 * s}, left: 59 * s},
		{budget: budget{deadline: 10 * s, onExit: exit(1, 3*s, false)}, left: 6 * s},
		{budget: budget{deadline: 10 * s, onExit: exit(3, 2*s, false)}, left: 3 * s},
		{budget: budget{deadline: 10 * s, onExit: exit(3, 2*s, true)}, left: 7 * s},
		{budget: budget{deadline: 10 * s, signals: part(10*s, "--grace")}, left: 9 * s}, // just fits
		{budget: budget{deadline: 10 * s, onStop: stop(2, 2*s), drain: part(2*s, "--drain"), onExit: exit(1, 2*s, false)}, left: 7 * s},
		{budget: budget{deadline: 10 * s, onStop: stop(2, 2*s), drain: part(2*s, "--drain"), signals: part(2*s, "--grace"),
			onExit: exit(1, 2*s, false)}, left: 7 * s},
		{budget: budget{deadline: 10 * s, onStop: stop(2, 2*s), drain: part(2*s, "GRACEFUL_DRAIN"), signals: part(2500*time.Millisecond, "--grace"),
			onExit: exit(1, 2*s, false)}, err: "--deadline: a stop takes longer than 10s: 2 x 2s for on-stop commands (--on-stop-timeout) + " +
			"2s of it (GRACEFUL_DRAIN) + 2.5s of it (--grace) + 2s for an on-exit command (--on-exit-timeout) = 10.5s"},
		{budget: budget{deadline: 10 * s, onExit: exit(2, 5*s, false)}, err: "--deadline: nothing of 10s is left for the target: " +
			"2 x 5s for on-exit commands (--on-exit-timeout) + 1s for graceful itself = 11s"},
		{budget: budget{deadline: 10 * s, onExit: exit(2, 9*s, true)}, err: "--deadline: nothing of 10s is left for the target: " +
			"9s for 2 on-exit commands at once (--on-exit-timeout) + 1s for graceful itself = 10s"},
		{budget: budget{deadline: 10 * s, onStop: stop(1, 9*s)}, err: "--deadline: nothing of 10s is left for the target: " +
			"9s for an on-stop command (--on-stop-timeout) + 1s for graceful itself = 10s"},
		{budget: budget{deadline: 10 * s, onStop: stop(1, 9*s-1)}, left: 9 * s},
		{budget: budget{deadline: 10 * s, onExit: exit(3, math.MaxInt64/2, false)}, err: "--deadline: a stop takes longer than 10s: " +
			"3 x 1281023h53m38.427387903s for on-exit commands (--on-exit-timeout) = 2562047h47m16.854775807s"}, // no overflow
	} {
		c.from = "--deadline"
		left, err := c.fit()
		if left != c.left || fmt.Sprint(err) != c.err && (err != nil || c.err != "") {
			t.Errorf("%+v\nleaves %v, %v\nwant   %v, %s", c.budget, left, err, c.left, c.err)
		}
	}
}

// What is given together, as the run will be asked for it.
func TestFlagsThatDependOnOneAnother(t *testing.T) {
	for _, c := range []struct {
		args string
		env  map[string]string
		want func(runner.Config) bool
		err  string
	}{
		{args: "--on-stop a --on-stop b --on-stop-timeout 3s --on-exit c", want: func(c runner.Config) bool {
			return c.OnStop[0].Limit == 3*s && c.OnStop[1].Limit == 3*s && c.OnExit[0].Limit == 30*s
		}},
		{args: "--on-stop a", want: func(c runner.Config) bool { return c.OnStop[0].Limit == 10*s }},
		{args: "--deadline 10s", want: func(c runner.Config) bool { return c.Grace == 9*s }},
		{args: "--deadline 10s --grace 2s", want: func(c runner.Config) bool { return c.Grace == 2*s }},
		{args: "--deadline 10s", env: map[string]string{"GRACEFUL_GRACE": "3s"}, want: func(c runner.Config) bool { return c.Grace == 3*s }},
		{args: "--deadline 10s --on-stop a --on-stop b --drain 1s", // hanging ones leave half of it to the target
			want: func(c runner.Config) bool { return c.OnStop[0].Limit == 2*s && c.Grace == 9*s }},
		{args: "--deadline 10m --on-stop a", want: func(c runner.Config) bool { return c.OnStop[0].Limit == 10*s }},
		{args: "--report r.json", want: func(c runner.Config) bool {
			return strings.HasPrefix(c.Report, "/") && strings.HasSuffix(c.Report, "/cmd/r.json")
		}},
		{args: "--report /r.json", want: func(c runner.Config) bool { return c.Report == "/r.json" }},
		{args: "--die-with-parent=77", want: func(c runner.Config) bool { return c.DieWithParent && c.Parent == 77 }},
		{args: "--die-with-parent", want: func(c runner.Config) bool { return c.DieWithParent && c.Parent == 0 }},
		{args: "--rewrite HUP=0 --rewrite TERM=QUIT", env: map[string]string{"GRACEFUL_REWRITE": "INT=0", "GRACEFUL_REMAP_EXIT": "1=2,3=4"},
			want: func(c runner.Config) bool {
				return maps.Equal(c.Rewrite, map[int]int{1: 0, 15: 3}) && maps.Equal(c.Remap, map[int]int{1: 2, 3: 4})
			}},
		{args: "", env: map[string]string{"GRACEFUL_KILL_ON_REPEAT": "1", "GRACEFUL_RERAISE": "true", "GRACEFUL_SURVIVORS": "wait"},
			want: func(c runner.Config) bool { return c.KillOnRepeat && c.Reraise && c.Survivors == runner.WaitSurvivors }},
		{args: "--grace 5s --stop-schedule 5s", err: "--grace: not together with --stop-schedule: a schedule has its own times"},
		{args: "--stop-schedule 5s", env: map[string]string{"GRACEFUL_GRACE": "1s"},
			err: "GRACEFUL_GRACE: not together with --stop-schedule: a schedule has its own times"},
		{args: "--deadline 10s --on-exit a", err: "--deadline: a stop takes longer than 10s: 30s for an on-exit command (the default of --on-exit-timeout) = 30s"},
		{args: "--on-exit-timeout 2s --stop-schedule TERM/5s/INT/4s/KILL --on-exit a", env: map[string]string{"GRACEFUL_DEADLINE": "10"},
			err: "GRACEFUL_DEADLINE: a stop takes longer than 10s: 9s of schedule (--stop-schedule) + 2s for an on-exit command (--on-exit-timeout) = 11s"},
		{args: "--deadline 5s --drain 5s", err: "--deadline: nothing of 5s is left for the target: 5s of drain (--drain) + 500ms for graceful itself = 5.5s"},
	} {
		t.Run(c.args, func(t *testing.T) {
			without(t)
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			f := newFlags()
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			for _, g := range f.groups() {
				flags.AddFlagSet(g.FlagSet)
			}
			if err := flags.Parse(strings.Fields(c.args)); err != nil {
				t.Fatal(err)
			}
			given, err := readVariables(flags)
			if err != nil {
				t.Fatal(err)
			}
			switch err := f.check(given); {
			case c.want == nil && (err == nil || err.Error() != c.err):
				t.Errorf("the error is %v\nwant %s", err, c.err)
			case c.want != nil && (err != nil || !c.want(f.config)):
				t.Errorf("it is %+v, %v", f.config, err)
			}
			if c.err == "" && f.config.Deadline > 0 && given["grace"] == "" && f.config.Grace != f.config.StoppingTime() {
				t.Errorf("the grace is %v, and the run has %v", f.config.Grace, f.config.StoppingTime())
			}
		})
	}
}

func TestTheNearestWordIsNotFar(t *testing.T) {
	words := []string{"TERM", "QUIT", "INT", "USR1", "USR2", "grace", "on-exit", "on-exit-order", "on-exit-timeout"}
	for text, want := range map[string]string{
		"TREM": "TERM", "TER": "TERM", "TERMM": "TERM", "QIUT": "QUIT", "graec": "grace", "Grace": "grace", "on-exit-time": "on-exit-timeout",
		"onexit": "on-exit", "": "", "x": "", "up": "", "frobnicate": "", "INTR": "INT", "on_exit_order": "on-exit-order",
	} {
		if got := nearest(text, words); got != want {
			t.Errorf("nearest to %q is %q, want %q", text, got, want)
		}
	}
}

func TestATimeAsItIsSpoken(t *testing.T) {
	for text, want := range map[string]string{
		"10 s": "10s", "10sec": "10s", "10 Seconds": "10s", "5min": "5m", "2 hours": "2h", "1 day": "24h", "250 ms": "250ms",
		"3milliseconds": "3ms", "1 month": "", "soon": "", "s": "", "99999999d": "",
	} {
		if got := spoken(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
