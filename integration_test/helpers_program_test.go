package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// proc is a program that a test starts.
type proc struct {
	t      testing.TB
	cmd    *exec.Cmd
	dir    string   // its own working directory
	output *os.File // its standard output and standard error
}

// command prepares a program in a directory of its own. All output of the program goes to one file.
func command(t testing.TB, args ...string) *proc {
	t.Helper()
	p := &proc{t: t, dir: t.TempDir()}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Dir = p.dir
	var err error
	// Use a file, not a pipe, so that the test does not wait for the remaining processes of a tree.
	if p.output, err = os.Create(filepath.Join(t.TempDir(), "output")); err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	return p
}

func (p *proc) start() *proc {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		p.output.Close()
	})
	return p
}

// start runs a program in the background.
func start(t testing.TB, args ...string) *proc {
	t.Helper()
	return command(t, args...).start()
}

// wait waits for the end of the program. It returns the exit status, or the name of the signal without SIG. After
// patience it kills the program and fails the test.
func (p *proc) wait() string {
	p.t.Helper()
	timer := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	err := p.cmd.Wait()
	if !timer.Stop() {
		p.t.Fatalf("%q has not ended in %v; it wrote:\n%s", p.cmd.Args, patience, p.text())
	}
	return ended(err)
}

// want waits for the end of the program. It fails the test unless status is the exit status or the name of the signal
// without SIG.
func (p *proc) want(status string) {
	p.t.Helper()
	if got := p.wait(); got != status {
		p.t.Fatalf("%.200q: exit status %s, want %s; it wrote:\n%s", p.cmd.Args, got, status, p.text())
	}
}

func (p *proc) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// text returns the output so far.
func (p *proc) text() string {
	data, err := os.ReadFile(p.output.Name())
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}

// waitForFile waits until a file in the program's directory has content, and returns that content.
func (p *proc) waitForFile(name string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	var data []byte
	p.until("file "+name, func() bool {
		data, _ = os.ReadFile(path)
		return len(data) > 0
	})
	return string(data)
}

// pidIn waits until a file in the program's directory has content, and returns the number in it.
func (p *proc) pidIn(name string) int {
	p.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(p.waitForFile(name)))
	if err != nil {
		p.t.Fatal(err)
	}
	return pid
}

// until polls happened until it returns true. After patience until fails the test, with a message that names what has
// not happened.
func (p *proc) until(what string, happened func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("no %s in %v; %.200q wrote:\n%s", what, patience, p.cmd.Args, p.text())
		}
	}
}

// wantFile fails the test unless the content of a file in the program's directory is want now. A missing file counts as
// empty.
func (p *proc) wantFile(name, want string) {
	p.t.Helper()
	data, _ := os.ReadFile(filepath.Join(p.dir, name))
	if got := string(data); got != want {
		p.t.Fatalf("%s is %q, want %q; the program wrote:\n%s", name, got, want, p.text())
	}
}

// withoutLog returns a text without the log lines of graceful. A separate thread of graceful writes those lines, so
// their position between other lines varies.
func withoutLog(text string) string {
	return strings.Join(slices.DeleteFunc(slices.Collect(strings.Lines(text)), func(line string) bool {
		return strings.HasPrefix(line, "graceful: ")
	}), "")
}

// lastLine returns the last non-empty line of a text.
func lastLine(text string) string {
	lines := bytes.Split(bytes.TrimSpace([]byte(text)), []byte("\n"))
	return string(lines[len(lines)-1])
}

// patience is the time limit for each wait in the tests. It is far longer than the slowest machine needs.
const patience = 60 * time.Second

// ended returns the exit status of a process, or the name of the signal that has ended the process, without SIG. err is
// the result of exec.Cmd.Wait. If err is not about the end of the process, ended returns the text of err.
func ended(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "0"
	case !errors.As(err, &exit):
		return err.Error()
	}
	if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
		return strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")
	}
	return strconv.Itoa(exit.ExitCode())
}

func alive(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		return fields[0] != "Z" && fields[0] != "X"
	}
	return syscall.Kill(pid, 0) == nil
}
