package cmd

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// With CMD_TEST_MAIN set, the test binary acts as graceful, for tests of its output and exit status.
func init() {
	if os.Getenv("CMD_TEST_MAIN") != "" {
		os.Exit(Main(os.Args))
	}
}

// Each invalid variable causes one line, and the exit status is 125.
func TestMain_invalidVariables(t *testing.T) {
	unsetVariables(t)
	t.Setenv("CMD_TEST_MAIN", "1")
	t.Setenv("GRACEFUL_GRACE", "so\non")
	t.Setenv("GRACEFUL_VERBOSE", "loud")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	run := exec.Command(self, "run")
	run.Stdout, run.Stderr = &stdout, &stderr
	_ = run.Run()
	want := `graceful: GRACEFUL_GRACE: "so\non" is not a time (10s, 1m30s, 500ms)
graceful: GRACEFUL_VERBOSE: "loud" is neither true nor false
`
	if stdout.String() != "" || stderr.String() != want || run.ProcessState.ExitCode() != 125 {
		t.Errorf("it wrote %q and %q, with %v", stdout.String(), stderr.String(), run.ProcessState)
	}
}

func TestUnknownCommand(t *testing.T) {
	for name, hint := range map[string]string{
		"rnu": "did you mean graceful run?", "./serve": "to run it: graceful run -- ./serve",
		"frobnicate": "see graceful help",
	} {
		root := newRoot(new(int))
		root.SetArgs([]string{name})
		want := fmt.Sprintf("there is no command %q (%s)", name, hint)
		if err := root.Execute(); err == nil || err.Error() != want {
			t.Errorf("the error is %v\nwant %s", err, want)
		}
	}
}

// An error of the command line has the form that --log-format selects, if that flag was parsed before the error.
func TestFlagSoFar_logFormat(t *testing.T) {
	unsetVariables(t)
	for _, c := range []struct {
		args, variable string
		want           bool
	}{
		{"run --log-format json --graec", "", true},
		{"run --log-format text --graec", "json", false},
		{"run --graec", "json", true},
		{"run --graec --log-format json", "", false}, // not parsed
		{"run --log-format xml", "", false},
		{"recover --log-format json --stat-dir", "", true},
		{"rnu --log-format json", "", false},
	} {
		t.Setenv("GRACEFUL_LOG_FORMAT", c.variable)
		root := newRoot(new(int))
		root.SetArgs(strings.Fields(c.args))
		command, err := root.ExecuteC()
		if err == nil || (flagSoFar(command, "log-format") == formJSON) != c.want {
			t.Errorf("%s (variable %q): JSON: %t, after the error %v", c.args, c.variable, !c.want, err)
		}
	}
}
