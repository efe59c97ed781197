package runner

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/machine"
	"graceful/runner/process"
)

// mark returns a copy of an environment with the variables that identify the run. budget is the time that a run inside
// this one gets for its own stop (machine.StopBudget).
func (r Run) mark(env []string, budget time.Duration) []string {
	env = process.Setenv(process.Setenv(env, "GRACEFUL_RUN_ID", r.ID), "GRACEFUL_NAME", r.Config.Name)
	env = process.Setenv(env, machine.StopBudget, budget.String())
	if r.Socket != "" {
		env = process.Setenv(env, "GRACEFUL_SOCKET", r.Socket)
	}
	return env
}

// commandEnv returns the environment of a command: the command's own or that of the run, with the variables of the run.
// It removes the variables (cookies) by which a CI runner finds and kills the processes of a cancelled job, because the
// command must still run then. It keeps BUILD_ID, because Jenkins kills only processes that have all of its cookies.
func commandEnv(r Run, c cleanup.Entry) []string {
	env := c.Env
	if env == nil {
		env = r.Config.Env
	}
	env = slices.DeleteFunc(r.mark(env, machine.CommandKillAfter), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"RUNNER_TRACKING_ID", "JENKINS_NODE_COOKIE", "JENKINS_SERVER_COOKIE"}, name) ||
			slices.Contains(OutcomeVariables, name) // c.Env may contain the values of another command
	})
	return append(env, outcomeEnv(r, c.ID)...)
}

// hookID is the name of the variable that marks the processes of a command. Its value is the id of the command.
const hookID = "GRACEFUL_HOOK_ID"

// outcomeEnv returns the variables that describe the outcome of the run, as far as it is known, for the command id.
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
	if r.Target.Ended { // false for a command that starts before the end of the target
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

// OutcomeVariables lists the names of the variables that outcomeEnv returns, in the same order. A graceful that a
// command starts removes these variables from the environment of its own run.
var OutcomeVariables = []string{
	"GRACEFUL_REASON", "GRACEFUL_EXIT_CODE", "GRACEFUL_SIGNAL", "GRACEFUL_STOP_SIGNAL", "GRACEFUL_ESCALATED",
	"GRACEFUL_TARGET_PID", "GRACEFUL_DURATION_MS", "GRACEFUL_HOOK_ID",
}
