package runner

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"graceful/cleanup"
	"graceful/runner/process"

	"golang.org/x/sys/unix"
)

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for file, mode := range map[string]os.FileMode{"good/prog": 0o755, "bad/prog": 0o644, "bad/only": 0o644, "here": 0o755} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "dirs/prog"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, want string
		err              error
	}{
		{"prog", "good", "good/prog", nil},
		{"prog", "nowhere:bad:dirs:good", "good/prog", nil}, // past what cannot be executed
		{"only", "bad:good", "", unix.EACCES},
		{"prog", "dirs", "", unix.ENOENT},
		{"none", "good:bad", "", unix.ENOENT},
		{"here", "good:", "./here", nil}, // an empty element is the current directory
		{"here", "", "./here", nil},
		{"", "good", "", unix.ENOENT},
		{"./bad/prog", "good", "./bad/prog", nil}, // execve will tell
	} {
		got, err := process.LookPath(c.name, c.path)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("lookPath(%q, %q) = %q, %v; want %q, %v", c.name, c.path, got, err, c.want, c.err)
		}
	}
}

func TestWithoutPATHTheSystemsDirectoriesAreSearched(t *testing.T) {
	for want, env := range map[string][]string{"/bin:/usr/bin": {"A=1"}, "": {"PATH="}, "/x": {"PATH=/x"}} {
		if got := process.SearchPath(env); got != want {
			t.Errorf("%q: %q, want %q", env, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	env := []string{"A=1", "AB=2", "B=x=y", "A=3"}
	if got := process.Getenv(env, "A"); got != "1" {
		t.Errorf("A is %q: the first one counts", got)
	}
	if got := process.Getenv(env, "B") + process.Getenv(env, "C"); got != "x=y" {
		t.Errorf("B and C are %q", got)
	}
	if got := process.Setenv(env, "A", "9"); !slices.Equal(got, []string{"A=9", "AB=2", "B=x=y", "A=3"}) || env[0] != "A=1" {
		t.Errorf("setenv made %q of %q", got, env)
	}
	r := Run{ID: "id", Config: Config{Name: "job", Env: []string{"GRACEFUL_RUN_ID=outer"}}}
	if got := runEnv(r); !slices.Equal(got, []string{"GRACEFUL_RUN_ID=id", "GRACEFUL_NAME=job"}) {
		t.Errorf("a run's environment is %q", got)
	}
}

func TestOutcomeVariablesAreAllNamed(t *testing.T) {
	var names []string
	for _, kv := range outcomeEnv(Run{}, 1) {
		name, _, _ := strings.Cut(kv, "=")
		names = append(names, name)
	}
	if !slices.Equal(names, OutcomeVariables) {
		t.Errorf("a cleanup command is told %v, a nested run forgets %v", names, OutcomeVariables)
	}
}

func TestStartFailures(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command string
		err     error
		status  int
	}{
		{"prog", unix.ENOENT, 127}, {"./prog", unix.ENOENT, 127}, {"a/b", unix.ENOTDIR, 127}, {there, unix.ENOENT, 126},
		{"prog", unix.EACCES, 126}, {"prog", unix.ENOEXEC, 126}, {"prog", unix.E2BIG, 126}, {"prog", unix.EPERM, 126},
		{"prog", unix.EAGAIN, 125}, {"prog", unix.ENOMEM, 125}, {"prog", unix.EMFILE, 125},
	} {
		if got, _ := startFailure(c.command, c.err); got != c.status {
			t.Errorf("%s: %v: status %d, want %d", c.command, c.err, got, c.status)
		}
	}
}

func TestACommandWithoutItsShellIsRefused(t *testing.T) {
	exec, err := cleanup.Parse(`["/no/such/program"]`)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkCommands([]cleanup.Command{exec}); err != nil {
		t.Errorf("the exec form needs no shell: %v", err)
	}
}
