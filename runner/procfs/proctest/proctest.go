// Package proctest makes directories that look like proc(5) on Linux, for tests. It never reads a real process.
package proctest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Process describes a process for the files that WriteTo writes.
type Process struct {
	PID, PPID int
	Group     int
	State     string  // one letter; "": S, sleeping
	Threads   [][]int // pids of the children of each thread; nil: one thread without children
}

// Dir makes a directory with the stat file and the children files of each process. The start time of a process equals
// its pid.
func Dir(t *testing.T, processes ...Process) (root string) {
	t.Helper()
	root = t.TempDir()
	for _, p := range processes {
		p.WriteTo(t, root)
	}
	return root
}

// WriteTo writes or replaces the files of the process. Any goroutine of the test may call it.
func (p Process) WriteTo(t *testing.T, root string) {
	threads := p.threads()
	state := p.State
	if state == "" {
		state = "S"
	}
	dir := filepath.Join(root, strconv.Itoa(p.PID))
	write(t, filepath.Join(dir, "stat"), fmt.Sprintf("%d (p) %s %d %d 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 %d 0 %d 0",
		p.PID, state, p.PPID, p.Group, len(threads), p.PID))
	for i := range threads {
		write(t, p.ChildrenFile(root, i), p.Children(i))
	}
}

// ChildrenFile returns the path of the children file of a thread. The first thread is 0.
func (p Process) ChildrenFile(root string, thread int) string {
	return filepath.Join(root, strconv.Itoa(p.PID), "task", strconv.Itoa(p.PID+thread), "children")
}

// Children returns the text of the children file of a thread.
func (p Process) Children(thread int) string {
	return strings.Trim(fmt.Sprint(p.threads()[thread]), "[]")
}

func (p Process) threads() [][]int {
	if p.Threads == nil {
		return [][]int{nil}
	}
	return p.Threads
}

func write(t *testing.T, path, text string) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}
