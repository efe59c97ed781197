package runner

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/process"
)

// What the target and the cleanup commands find in their environment.

// runEnv is the environment of the target and of the cleanup commands.
func runEnv(r Run) []string { return r.mark(r.Config.Env) }

// mark tells in an environment which run it is of.
func (r Run) mark(env []string) []string {
	env = process.Setenv(process.Setenv(env, "GRACEFUL_RUN_ID", r.ID), "GRACEFUL_NAME", r.Config.Name)
	if r.Socket != "" {
		env = process.Setenv(env, "GRACEFUL_SOCKET", r.Socket)
	}
	return env
}

// commandEnv is that of a cleanup command. It carries no cookie by which a CI runner hunts what a cancelled job has left
// behind: just then the command has to run. (Jenkins wants all of its marks to be there, so that BUILD_ID can stay.)
func commandEnv(r Run, c cleanup.Entry) []string {
	env := c.Env
	if env == nil {
		env = r.Config.Env
	}
	env = slices.DeleteFunc(r.mark(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"RUNNER_TRACKING_ID", "JENKINS_NODE_COOKIE", "JENKINS_SERVER_COOKIE"}, name) ||
			slices.Contains(OutcomeVariables, name) // a cleanup command has registered another one
	})
	return append(env, outcomeEnv(r, c.ID)...)
}

// hookID is the variable by which what a command of ours has started can be told from all else.
const hookID = "GRACEFUL_HOOK_ID"

// outcomeEnv tells a cleanup command how the run went.
func outcomeEnv(r Run, id int) []string {
	name := func(sig int) string {
		if sig == 0 {
			return ""
		}
		return forward.Name(syscall.Signal(sig))
	}
	pid, status, duration := "", "", ""
	if r.Target.PID != 0 {
		pid = strconv.Itoa(r.Target.PID)
	}
	if r.Target.Ended { // else a stop is just beginning
		status, duration = strconv.Itoa(r.Status()), strconv.FormatInt(r.Target.Duration.Milliseconds(), 10)
	}
	return []string{
		"GRACEFUL_REASON=" + r.Reason(),
		"GRACEFUL_EXIT_CODE=" + status,
		"GRACEFUL_SIGNAL=" + name(r.Target.Ending.Signal),
		"GRACEFUL_STOP_SIGNAL=" + name(r.Stop.Signal),
		fmt.Sprintf("GRACEFUL_ESCALATED=%t", r.Stop.Escalated),
		"GRACEFUL_TARGET_PID=" + pid,
		"GRACEFUL_DURATION_MS=" + duration,
		hookID + "=" + strconv.Itoa(id),
	}
}

// OutcomeVariables are the names of what a cleanup command is told; a run started by one does not pass them on.
var OutcomeVariables = []string{
	"GRACEFUL_REASON", "GRACEFUL_EXIT_CODE", "GRACEFUL_SIGNAL", "GRACEFUL_STOP_SIGNAL", "GRACEFUL_ESCALATED",
	"GRACEFUL_TARGET_PID", "GRACEFUL_DURATION_MS", "GRACEFUL_HOOK_ID",
}
