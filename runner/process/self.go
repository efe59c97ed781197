package process

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// SelfPath returns a path at which graceful can be executed, even where /proc is missing.
func SelfPath() (string, error) {
	if unix.Access(SelfExe, unix.X_OK) == nil {
		return SelfExe, nil
	}
	if path, err := os.Executable(); err == nil {
		return path, nil
	}
	return LookPath(os.Args[0], SearchPath(os.Environ()))
}

// StartSelf executes graceful at path, in a process group of its own and with RuntimeEnv. Standard
// input is empty; standard output and error are output. The caller reaps the process.
func StartSelf(path string, args []string, output *os.File) (pid int, err error) {
	stdin, err := EmptyInput()
	if err != nil {
		return 0, err
	}
	defer stdin.Close()
	pid, err = syscall.ForkExec(path, append([]string{"graceful"}, args...), &syscall.ProcAttr{
		Env:   RuntimeEnv(os.Environ()),
		Files: []uintptr{stdin.Fd(), output.Fd(), output.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("starting %s: %w", path, err)
	}
	return pid, nil
}

// RuntimeEnv is the environment for another process of graceful: the variables of the Go runtime and of the tests alone. CI
// runners find processes that a cancelled job has left by a variable in their environment. The target's is in the ledger.
func RuntimeEnv(environ []string) (env []string) {
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(runtimeVariables, name) {
			env = append(env, kv)
		}
	}
	return env
}

// runtimeVariables are for the Go runtime and library, and for the tests.
var runtimeVariables = []string{"GODEBUG", "GOTRACEBACK", "GOCOVERDIR", "GORACE", "TZ"}

// EmptyInput returns a descriptor from which end of file is read at once.
func EmptyInput() (*os.File, error) {
	r, w, err := os.Pipe()
	if err == nil {
		err = w.Close()
	}
	return r, err
}
