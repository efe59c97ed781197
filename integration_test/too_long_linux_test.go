package integration_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"graceful/cleanup"
	"graceful/cleanup/registry"
)

// A command that is too long for execve(2) is refused when it is registered.
func TestDefer_tooLong(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--defer", "on", "--", "sh", "-c",
		"echo $GRACEFUL_SOCKET >socket; until [ -e end ]; do sleep 0.01; done")
	address := strings.TrimSpace(p.waitForFile("socket"))
	long := cleanup.Text(strings.Repeat("x", 128<<10))
	many := make([]cleanup.Text, 1<<18)
	for i := range many {
		many[i] = "sh"
	}
	for name, r := range map[string]registry.Request{
		"argument":    {Command: []cleanup.Text{"true", long}},
		"shell":       {Shell: "# " + long},
		"variable":    {Command: []cleanup.Text{"true"}, Env: []cleanup.Text{"A=" + long}},
		"all of them": {Command: many},
	} {
		r.Do = registry.Defer
		answer, err := registry.Ask(address, r)
		if err != nil || !strings.Contains(answer.Error, "no program can be started with more than") {
			t.Errorf("%s: %+v, %v", name, answer, err)
		}
	}
	p.touch("end")
	p.want("0")
}

// A run adds variables to the environment of its cleanup commands. If execve(2) cannot start a command with these
// variables, the run is refused at the start.
func TestRun_tooLong(t *testing.T) {
	need(t, "linux", "prlimit")
	t.Parallel()
	long := make([]string, 20)
	// The values together have 1,000 bytes less than the 2 MiB that execve(2) accepts with a stack of 8 MiB.
	for i := range long {
		long[i] = fmt.Sprint("A", i, "=") + strings.Repeat("x", (2<<20-1000)/len(long))
	}
	for name, c := range map[string]struct{ args, env []string }{
		"environment": {env: long}, "name": {args: []string{"--name", strings.Repeat("x", 128<<10-2)}},
	} {
		for _, when := range []string{"--on-exit", "--on-stop"} {
			args := slices.Concat([]string{"prlimit", "--stack=8388608", "graceful", "run", when, "true"}, c.args,
				[]string{"--", "touch", "started"})
			p := command(t, args...)
			p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, c.env...)
			p.start().want("125")
			if text := p.text(); !strings.Contains(text, "no program can be started with more than") || exists(p, "started") {
				t.Errorf("%s, %s: it wrote %.500q", name, when, text)
			}
		}
	}
}
