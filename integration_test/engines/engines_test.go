//go:build engines

// Package engines runs graceful under real service managers and container engines, as root. .ci/engines runs these
// tests, and installs most of the engines. go test ./... does not run the tests, because they need the build tag
// engines.
package engines

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is the time limit for each wait in the tests.
const patience = 60 * time.Second

// binary is the path of the graceful under test.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "graceful-engines-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // other users run the programs in it
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(dir, "graceful")
	cmd := exec.Command("go", "build", "-o", binary, "../..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building graceful: %v\n%s", err, out)
		return 1
	}
	defer func() {
		for _, end := range slices.Backward(ends) {
			end()
		}
	}()
	return m.Run()
}

// ends contains functions to call after all tests, the last one first.
var ends []func()

var endsLock sync.Mutex

// atEnd registers a function to call after all tests.
func atEnd(end func()) {
	endsLock.Lock()
	defer endsLock.Unlock()
	ends = append(ends, end)
}

// until polls happened until happened returns true. After patience, until fails the test. The polls become less
// frequent, because each look at a container starts processes.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	pause := 10 * time.Millisecond
	for late := time.Now().Add(patience); !happened(); pause = min(pause*5/4, 200*time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("no %s in %v", what, patience)
		}
		time.Sleep(pause)
	}
}

// content returns the content of a file, or "" if the file cannot be read.
func content(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

// write writes an executable file. It creates missing parent directories.
func write(t *testing.T, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// output runs a command. It returns the output without surrounding blanks, and whether the command succeeded.
func output(name string, args ...string) (string, bool) {
	out, err := exec.Command(name, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err == nil
}
