// Package integration_test runs the real binary on real processes.
//
// The scripts in testdata/script show one behaviour each, named at the top. Tests that a script cannot express
// (hundreds of runs, strace, another user) are Go tests.
//
// The files helpers_* contain functions that many tests use. The program helper is a copy of the test binary. Tests
// start helper as a target or as another process, and its first argument is its role. The files helper_roles_* contain
// the roles that many tests use. Further roles are next to their tests.
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
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	// Import the program, so that the test cache depends on it. When the program changes, the tests must run again.
	_ "graceful/cmd"
)

// binDir is a directory that contains the graceful under test and the helper. It is the first directory in PATH.
var binDir string

// plain is the path of a graceful that is built as released, for tests that cannot use the graceful under test. With
// the race detector, the graceful under test is not static. With coverage, the graceful under test writes files.
var plain string

// coverage is the directory for the coverage data of graceful, or empty. (go test uses GOCOVERDIR itself.)
var coverage = os.Getenv("GRACEFUL_TEST_COVERAGE")

// noSkip makes a test fail instead of skipping it. (CI has all requirements installed.)
var noSkip = os.Getenv("GRACEFUL_TEST_NO_SKIP") != ""

// raceBuild means that the graceful under test contains the race detector, and so uses the C library and its threads.
var raceBuild = os.Getenv("GRACEFUL_TEST_RACE") != ""

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "helper" {
		os.Exit(helper(os.Args[1:]))
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	// Otherwise graceful would write annotations. Separate tests check annotations.
	for _, name := range []string{"GITHUB_ACTIONS", "GITLAB_CI"} {
		os.Unsetenv(name)
	}
	unix.Umask(0o022)                // otherwise graceful warns about parents of state directories
	if signal.Ignored(unix.SIGHUP) { // after nohup(1), all started processes would ignore SIGHUP
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
			os.Setenv("GORACE", "atexit_sleep_ms=0") // otherwise each run ends with a second of sleep
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
	// Make a copy, because the name selects helper in TestMain, and other users cannot reach the original file.
	if err := copyFile(self, filepath.Join(binDir, "helper")); err != nil {
		return failed(err)
	}
	path := append([]string{binDir}, searchable(os.Getenv("PATH"))...)
	if err := os.Setenv("PATH", strings.Join(path, string(os.PathListSeparator))); err != nil {
		return failed(err)
	}
	return m.Run()
}

// searchable removes from a PATH the directories that this user may not search. With such a directory, shells report
// 126 instead of 127 for a missing program.
func searchable(path string) []string {
	return slices.DeleteFunc(filepath.SplitList(path), func(dir string) bool {
		return errors.Is(unix.Access(dir, unix.X_OK), unix.EACCES)
	})
}

// build builds graceful as the file to. Without flags, the result is like a released binary.
func build(to string, flags ...string) error { return buildFrom("..", to, flags...) }

// buildFrom builds the program in the directory dir as the file to. It disables cgo, except with flags under
// GRACEFUL_TEST_RACE, because the race detector needs cgo.
func buildFrom(dir, to string, flags ...string) error {
	cmd := exec.Command("go", slices.Concat([]string{"build", "-o", to}, flags, []string{dir})...)
	cmd.Env = os.Environ()
	if !raceBuild || len(flags) == 0 {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
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
	return writeProgram(to, data)
}

// writeProgram writes an executable file. It prevents forks while the file is open for writing. A forked child would
// have the file open until the child executes another program, and until then execve(2) of the file fails (ETXTBSY).
func writeProgram(path string, data []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, data, 0o755)
}

// need skips the test unless all named requirements are available. If skipping is forbidden, need fails the test
// instead.
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

// rounds returns n, the number of repetitions of a test, or a quarter of n with the race detector, which is slow.
func rounds(n int) int {
	if raceBuild {
		return n / 4
	}
	return n
}

const bashCompletion = "/usr/share/bash-completion/bash_completion"

// has reports whether the machine has a requirement: one of the names below, or else a program in PATH. "docker" means
// that a daemon runs, and "pidns" that a new PID namespace is possible. "python3-jsonschema" is the Debian package, and
// "norace" means a graceful without the race detector.
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

// postgresDir returns the directory of PostgreSQL's programs, or "". Debian does not put it in PATH.
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

// pidNamespace returns the arguments of unshare that run a command as PID 1 of a namespace. The namespace ends with
// unshare.
func pidNamespace(command ...string) []string {
	args := []string{"--pid", "--fork", "--mount-proc", "--kill-child"}
	if os.Geteuid() != 0 {
		args = append([]string{"--user", "--map-root-user"}, args...)
	}
	return slices.Concat(args, []string{"--"}, command)
}
