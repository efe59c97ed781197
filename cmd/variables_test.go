package cmd

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// unsetVariables unsets all variables of graceful and of CI systems for a test, because the test itself may run inside
// a run of graceful or in a CI job.
func unsetVariables(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "GRACEFUL_") || name == "GITHUB_ACTIONS" || name == "GITLAB_CI" {
			t.Setenv(name, "") // the test framework restores the variable after the test
			os.Unsetenv(name)
		}
	}
}

func TestVariable_ofAFlag(t *testing.T) {
	for flag, want := range map[string]string{"grace": "GRACEFUL_GRACE", "on-exit-order": "GRACEFUL_ON_EXIT_ORDER"} {
		if got := variable(flag); got != want {
			t.Errorf("--%s is %s, want %s", flag, got, want)
		}
	}
}

// Inside a run GRACEFUL_NAME contains the name of that run. A nested run does not take that name.
func TestReadVariables_nameInsideARun(t *testing.T) {
	for id, want := range map[string]string{"": "outer", "17": ""} {
		unsetVariables(t)
		t.Setenv("GRACEFUL_NAME", "outer")
		t.Setenv("GRACEFUL_RUN_ID", id)
		flags := newRun(new(int)).Flags()
		if err := readVariables(flags, map[string]string{}); err != nil {
			t.Fatal(err)
		}
		if got := flags.Lookup("name").Value.String(); got != want {
			t.Errorf("in run %q the name is %q, want %q", id, got, want)
		}
	}
}

// The target does not inherit the variables of graceful's flags, nor the socket and the outcome of an outer run.
func TestTargetEnviron(t *testing.T) {
	kept := []string{"PATH=/bin", "GRACEFUL_RUN_ID=kept: the run sets its own", "GRACEFUL_OTHER=not ours", "odd"}
	environ := append([]string{
		"GRACEFUL_GRACE=1s", "GRACEFUL_ON_EXIT=rm", "GRACEFUL_ON_EXIT_ORDER=fifo", "GRACEFUL_ON_EXIT_TIMEOUT=1s",
		"GRACEFUL_CONTAIN=group", "GRACEFUL_VERBOSE=1", "GRACEFUL_LOG_FORMAT=json", "GRACEFUL_NAME=outer",
		"GRACEFUL_REASON=exited", "GRACEFUL_HOOK_ID=1", "GRACEFUL_SOCKET=/s",
	}, kept...)
	if got := targetEnviron(environ); !slices.Equal(got, kept) {
		t.Errorf("the target inherits %q, want %q", got, kept)
	}
}
