package runner

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"graceful/cleanup"
	"graceful/forward"

	"golang.org/x/sys/unix"
)

// Where programs are found, and what they are told in their environment.

// lookPath finds a program as execvp(3) does. (exec.LookPath refuses what it finds in the current directory, and
// does not tell a program that may not be executed from one that is not there.)
func lookPath(name, path string) (string, error) {
	if name == "" {
		return "", unix.ENOENT
	}
	if strings.Contains(name, "/") {
		return name, nil // execve will say what is wrong
	}
	found := error(unix.ENOENT)
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + name
		var st unix.Stat_t
		switch err := unix.Stat(file, &st); {
		case err == unix.EACCES:
			found = err // as for execvp: it may be there
			continue
		case err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR:
			continue
		}
		if unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
		found = unix.EACCES
	}
	return "", found
}

// enterable tells why a process could not be started in a directory, which execve(2) would not tell from the program's
// absence.
func enterable(dir string) error {
	if dir == "" {
		return nil
	}
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = &fs.PathError{Op: "enter", Path: dir, Err: unix.ENOTDIR}
	}
	if err == nil {
		err = unix.Access(dir, unix.X_OK)
	}
	return err
}

// within takes the relative directories in a PATH for what they are in another one.
func within(dir, path string) string {
	if dir == "" {
		return path
	}
	list := strings.Split(path, ":")
	for i, in := range list {
		if !strings.HasPrefix(in, "/") {
			list[i] = dir + "/" + in
		}
	}
	return strings.Join(list, ":")
}

// searchPath is PATH, or without one what execvp(3) takes instead.
func searchPath(env []string) string {
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		return "/bin:/usr/bin"
	}
	return getenv(env, "PATH")
}

// getenv returns the value of a variable in an environment, the first as getenv(3) does.
func getenv(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// setenv returns the environment with a variable in it, in the place that it had.
func setenv(env []string, name, value string) []string {
	env = slices.Clone(env)
	for i, kv := range env {
		if strings.HasPrefix(kv, name+"=") {
			env[i] = name + "=" + value
			return env
		}
	}
	return append(env, name+"="+value)
}

// runEnv is the environment of the target and of the cleanup commands.
func runEnv(r Run) []string { return r.mark(r.Config.Env) }

// mark tells in an environment which run it is of.
func (r Run) mark(env []string) []string {
	env = setenv(setenv(env, "GRACEFUL_RUN_ID", r.ID), "GRACEFUL_NAME", r.Config.Name)
	if r.Socket != "" {
		env = setenv(env, "GRACEFUL_SOCKET", r.Socket)
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
