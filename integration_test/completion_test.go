package integration_test

import (
	"os/exec"
	"strings"
	"testing"
)

// bash breaks words at = and : before it passes them to the completion script. Values such as TERM=QUIT are still
// completed.
func TestCompletion_bash(t *testing.T) {
	need(t, "bash", "bash-completion")
	const script = `source "$1"; source <(graceful completion bash)
compopt() { :; } # bash has it only during a requested completion
try() {
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9 COMP_KEY=9 COMPREPLY=()
	COMP_LINE=$*; COMP_LINE=${COMP_LINE// = /=} COMP_POINT=${#COMP_LINE}
	__start_graceful
	echo "${COMPREPLY[@]}"
}
try graceful run --rewrite TE
try graceful run --rewrite TERM = Q
try graceful run --rewrite = TERM = SIGQ
try graceful run --stop-schedule TERM/10s/k
try graceful run --survivors = w
try graceful run --contain s
try graceful run -- /bin/s
try graceful comp
`
	c := exec.Command("bash", "--norc", "-c", script, "bash", bashCompletion)
	c.Env = append(c.Environ(), "BASH_COMP_DEBUG_FILE=")
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	want := `TERM=
QUIT
SIGQUIT
TERM/10s/kill
wait
subreaper

completion
`
	if got := strings.ReplaceAll(string(out), " \n", "\n"); err != nil || got != want {
		t.Errorf("%v: bash wrote\n%s\nwant\n%s\n%s", err, got, want, stderr.String())
	}
}

// graceful prints a completion script for each shell. Each installed shell except PowerShell accepts the syntax of its
// script.
func TestCompletion_scriptOfEachShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		out, err := exec.Command("graceful", "completion", shell).Output()
		if err != nil || !strings.Contains(string(out), "__complete") {
			t.Errorf("%s: %v: %.200s", shell, err, out)
			continue
		}
		if _, err := exec.LookPath(shell); err != nil || shell == "powershell" {
			continue
		}
		check := exec.Command(shell, "-n")
		check.Stdin = strings.NewReader(string(out))
		if said, err := check.CombinedOutput(); err != nil || len(said) > 0 {
			t.Errorf("%s does not take its script: %v: %s", shell, err, said)
		}
	}
}
