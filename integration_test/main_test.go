// Package integration_test runs the real binary on real processes.
//
// The scripts in testdata/script show one behaviour each and say at the top which. What a script cannot say
// (hundreds of runs, strace, another user) is a Go test.
package integration_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	// For the test cache: when the program changes, these tests are to run again.
	_ "graceful/cmd"

	"golang.org/x/sys/unix"
)

// binDir holds the graceful under test and the helper; it stands first in PATH.
var binDir string

// plain is graceful as users get it, for where the one under test cannot go: with the race detector it is not
// static, and with coverage it wants to write a file.
var plain string

// coverage is where the graceful under test writes what was covered of it, or empty. (GOCOVERDIR itself is go
// test's own.)
var coverage = os.Getenv("GRACEFUL_TEST_COVERAGE")

// noSkip: a test that cannot run here is a failure (CI installs what is needed).
var noSkip = os.Getenv("GRACEFUL_TEST_NO_SKIP") != ""

// raceBuild: the binary has the race detector in it, and so the C library and its threads.
var raceBuild = os.Getenv("GRACEFUL_TEST_RACE") != ""

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "helper" {
		os.Exit(helper(os.Args[1:]))
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	for _, name := range []string{"GITHUB_ACTIONS", "GITLAB_CI"} { // annotations: they are the subject of one test
		os.Unsetenv(name)
	}
	unix.Umask(0o022)                // a state directory below one that the group may write to gets a warning
	if signal.Ignored(unix.SIGHUP) { // nohup(1): all that we start would ignore it as well
		signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	}
	dir, err := os.MkdirTemp("", "graceful-test-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	// Some tests run as another user.
	if err := os.Chmod(dir, 0o755); err != nil {
		return failed(err)
	}
	binDir = dir
	os.Unsetenv("GOCOVERDIR")
	plain = filepath.Join(binDir, "graceful")
	if raceBuild || coverage != "" {
		var flags []string
		if raceBuild {
			os.Setenv("GORACE", "atexit_sleep_ms=0") // else each run ends with a second of sleep
			flags = append(flags, "-race")
		}
		if coverage != "" {
			flags = append(flags, "-cover", "-coverpkg=graceful/...")
			os.Setenv("GOCOVERDIR", coverage)
		}
		if err := build(plain, flags...); err != nil {
			return failed(err)
		}
		plain = filepath.Join(binDir, "plain", "graceful")
	}
	if err := build(plain); err != nil {
		return failed(err)
	}
	self, err := os.Executable()
	if err != nil {
		return failed(err)
	}
	// A copy, because some tests look at it from where the original cannot be reached.
	if err := copyFile(self, filepath.Join(binDir, "helper")); err != nil {
		return failed(err)
	}
	path := append([]string{binDir}, searchable(os.Getenv("PATH"))...)
	if err := os.Setenv("PATH", strings.Join(path, string(os.PathListSeparator))); err != nil {
		return failed(err)
	}
	return m.Run()
}

// searchable lists the directories in a PATH that we may search. With one that we may not, a program that is not found
// is a program that may not be executed (126 and not 127), to the shells too.
func searchable(path string) []string {
	return slices.DeleteFunc(filepath.SplitList(path), func(dir string) bool {
		return errors.Is(unix.Access(dir, unix.X_OK), unix.EACCES)
	})
}

// build makes the binary; without flags as users get it.
func build(to string, flags ...string) error { return buildFrom("..", to, flags...) }

// buildFrom makes the program of another directory.
func buildFrom(dir, to string, flags ...string) error {
	cmd := exec.Command("go", slices.Concat([]string{"build", "-o", to}, flags, []string{dir})...)
	cmd.Env = os.Environ()
	if !raceBuild || len(flags) == 0 {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0") // the race detector needs it
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", to, err, out)
	}
	return nil
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "integration tests:", err)
	return 1
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// need skips the test, or fails it where skipping is forbidden, unless all of what it names is here.
func need(t testing.TB, what ...string) {
	t.Helper()
	for _, w := range what {
		if has(w) {
			continue
		}
		if noSkip {
			t.Fatalf("%s is needed and missing", w)
		}
		t.Skipf("%s is missing", w)
	}
}

// rounds returns how often a test does the same: less often with the race detector, which makes each time longer.
func rounds(n int) int {
	if raceBuild {
		return n / 4
	}
	return n
}

const bashCompletion = "/usr/share/bash-completion/bash_completion"

// has tells whether the machine has something: "linux", "root", "docker" (running), "pidns" (a PID namespace of our
// own can be made), "python3-jsonschema" (the Debian package), or else a program.
func has(what string) bool {
	switch what {
	case "linux":
		return runtime.GOOS == "linux"
	case "root":
		return os.Geteuid() == 0
	case "norace":
		return !raceBuild
	case "userns":
		return exec.Command("unshare", "--user", "--map-root-user", "--mount", "true").Run() == nil
	case "fuse":
		return unix.Access("/dev/fuse", unix.W_OK) == nil
	case "env-signals": // coreutils 8.31
		return exec.Command("env", "--block-signal=USR1", "--ignore-signal=USR2", "true").Run() == nil
	case "bash-completion":
		_, err := os.Stat(bashCompletion)
		return err == nil
	case "python3-jsonschema": // 4.0
		return exec.Command("python3", "-c", "import jsonschema; jsonschema.Draft202012Validator").Run() == nil
	case "ns_last_pid": // CONFIG_CHECKPOINT_RESTORE
		return unix.Access("/proc/sys/kernel/ns_last_pid", unix.W_OK) == nil
	case "postgres":
		return postgresDir() != ""
	case "docker":
		return exec.Command("docker", "info").Run() == nil
	case "pidns":
		return exec.Command("unshare", pidNamespace("true")...).Run() == nil
	}
	_, err := exec.LookPath(what)
	return err == nil
}

// postgresDir is where PostgreSQL's programs are, or empty. Debian keeps them out of PATH.
func postgresDir() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if path, err := exec.LookPath("postgres"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(found[0])
}

// pidNamespace returns unshare's arguments for running a command as PID 1 of a namespace that dies with it.
func pidNamespace(command ...string) []string {
	args := []string{"--pid", "--fork", "--mount-proc", "--kill-child"}
	if os.Geteuid() != 0 {
		args = append([]string{"--user", "--map-root-user"}, args...)
	}
	return slices.Concat(args, []string{"--"}, command)
}
