package runner

import (
	"slices"
	"strings"
	"testing"
	"time"

	"graceful/runner/machine"
	"graceful/runner/process"
)

func TestRunEnv(t *testing.T) {
	env := []string{"A=1", "AB=2", "B=x=y", "A=3"}
	if got := process.Getenv(env, "A"); got != "1" {
		t.Errorf("A is %q: the first one counts", got)
	}
	if got := process.Getenv(env, "B") + process.Getenv(env, "C"); got != "x=y" {
		t.Errorf("B and C are %q", got)
	}
	want := []string{"A=9", "AB=2", "B=x=y", "A=3"}
	if got := process.Setenv(env, "A", "9"); !slices.Equal(got, want) || env[0] != "A=1" {
		t.Errorf("Setenv returns %q; env is %q", got, env)
	}
	r := Run{ID: "id", Config: Config{Name: "job", Env: []string{"GRACEFUL_RUN_ID=outer"}}}
	if got := r.mark(r.Config.Env, time.Minute); !slices.Equal(got, []string{
		"GRACEFUL_RUN_ID=id", "GRACEFUL_NAME=job", "GRACEFUL_STOP_BUDGET=1m0s",
	}) {
		t.Errorf("the environment of a run is %q", got)
	}
}

func TestOutcomeVariables_areComplete(t *testing.T) {
	var names []string
	for _, kv := range outcomeEnv(Run{}, 1) {
		name, _, _ := strings.Cut(kv, "=")
		names = append(names, name)
	}
	if !slices.Equal(names, OutcomeVariables) {
		t.Errorf("a cleanup command gets %v, a nested run removes %v", names, OutcomeVariables)
	}
}

func TestOutcomeEnv(t *testing.T) {
	for name, c := range map[string]struct {
		target machine.Target
		stop   machine.Stop
		want   []string // values, in the order of OutcomeVariables
	}{
		"an exit": {
			machine.Target{PID: 7, Ending: machine.Ending{Code: 3}, Duration: 1500 * time.Millisecond}, machine.Stop{},
			[]string{"exited", "3", "", "", "false", "7", "1500", "4"}},
		"a signal": {
			machine.Target{PID: 7, Ending: machine.Ending{Signal: 11}}, machine.Stop{},
			[]string{"signaled", "139", "SEGV", "", "false", "7", "0", "4"}},
		"a stop": {
			machine.Target{PID: 7}, machine.Stop{Signal: machine.SigTERM},
			[]string{"stopped", "0", "", "TERM", "false", "7", "0", "4"}},
		"a stop and KILL": {
			machine.Target{PID: 7, Ending: machine.Ending{Signal: 9}}, machine.Stop{Signal: sigINT, Escalated: true},
			[]string{"stopped", "137", "KILL", "INT", "true", "7", "0", "4"}},
		"a time limit": {
			machine.Target{PID: 7, Ending: machine.Ending{Signal: 15}},
			machine.Stop{TimedOut: true, Signal: machine.SigTERM},
			[]string{"timed-out", "124", "TERM", "TERM", "false", "7", "0", "4"}},
		"no start": {
			machine.Target{Failed: true, Ending: machine.Ending{Code: 127}}, machine.Stop{},
			[]string{"start-failed", "127", "", "", "false", "", "0", "4"}},
	} {
		var want []string
		for i, name := range OutcomeVariables {
			want = append(want, name+"="+c.want[i])
		}
		c.target.Ended = true
		if got := outcomeEnv(Run{Run: machine.Run{Target: c.target, Stop: c.stop}}, 4); !slices.Equal(got, want) {
			t.Errorf("%s: the command gets %q, want %q", name, got, want)
		}
	}
}
