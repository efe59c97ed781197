package process

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/runner/machine"
)

// startGuard starts a guard for a test. The end of the test kills the guard, so the guard starts no successor.
func startGuard(t *testing.T) *Guard {
	t.Helper()
	g, err := StartGuard(Succession{Successor: func(int, int) Spec {
		return Spec{Program: "/bin/false", Argv: []string{"false"}}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// shell returns a Spec for a shell script.
func shell(script string) Spec {
	return Spec{Program: "/bin/sh", Argv: []string{"sh", "-c", script}, Env: os.Environ()}
}

// until polls a condition until the condition is true. After a minute, until fails the test. what describes the event
// that the test waits for.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s within a minute", what)
		}
	}
}

// ends waits until a process of the guard ends, and reaps the process. The test fails if the process is not the wanted
// one, or has another ending.
func ends(t *testing.T, g *Guard, want int, ending machine.Ending) {
	t.Helper()
	var pid int
	var got machine.Ending
	until(t, "end of a process", func() bool { pid, got, _ = g.Peek(); return pid != 0 })
	if pid != want || got != ending {
		t.Errorf("process %d ended with %+v, want %d, %+v", pid, got, want, ending)
	}
	g.Reap(pid)
	until(t, "reaping", func() bool { return g.slotOf(pid) == nil })
}

// Peek returns the exit status or the signal of each process, and then reports that no child is left.
func TestGuard_processes(t *testing.T) {
	g := startGuard(t)
	for id, c := range []struct {
		script string
		want   machine.Ending
	}{
		{"exit 3", machine.Ending{Code: 3}}, {"exit 255", machine.Ending{Code: 255}},
		{"kill -9 $$", machine.Ending{Signal: 9}},
	} {
		pid, err := g.Start(shell(c.script), id)
		if err != nil {
			t.Fatal(err)
		}
		ends(t, g, pid, c.want)
	}
	until(t, "word that there is no child", func() bool { _, _, childless := g.Peek(); return childless })
}

// A process that cannot be started leaves nothing behind. The error names the failed step.
func TestGuard_failures(t *testing.T) {
	const missing, tooLong = "no such file or directory", "argument list too long"
	g := startGuard(t)
	children, err := OpenChildren()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	defer func(was func() string) { spareParent = was }(spareParent)
	spareParent = func() string { return dir + "/none" }
	if err := os.WriteFile(dir+"/script", []byte("#!"+dir+"/none\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Spec)
		want   error
		text   string
	}{
		"no program":   {func(s *Spec) { s.Program = dir + "/none" }, unix.ENOENT, missing},
		"none in PATH": {func(s *Spec) { s.Program, s.Search = "none", dir+":/bin/sh" }, unix.ENOTDIR, "not a directory"},
		"no name":      {func(s *Spec) { s.Program = "" }, unix.ENOENT, missing},
		"a directory":  {func(s *Spec) { s.Program = dir }, unix.EACCES, "permission denied"},
		"interpreter": {func(s *Spec) { s.Program = dir + "/script" }, ErrInterpreter,
			"its interpreter or dynamic loader: " + missing},
		"no directory": {func(s *Spec) { s.Dir = "/dev/null/none" }, ErrDir,
			"its working directory: " + missing},
		"no cgroup":    {func(s *Spec) { s.Cgroup = dir + "/none" }, ErrCgroup, "entering its cgroup: " + missing},
		"a NUL":        {func(s *Spec) { s.Argv = []string{"a\x00b"} }, unix.EINVAL, "invalid argument"},
		"too much":     {func(s *Spec) { s.Env = []string{strings.Repeat("x", 1<<20)} }, unix.E2BIG, tooLong},
		"far too much": {func(s *Spec) { s.Env = []string{strings.Repeat("x", 17<<20)} }, unix.E2BIG, tooLong},
	} {
		s := shell("exit 1")
		c.change(&s)
		for name, start := range map[string]func() (int, error){
			name:                       func() (int, error) { return g.Start(s, 1) },
			name + ", without a guard": func() (int, error) { return children.Start(s, 1) },
		} {
			if pid, err := start(); pid != 0 || !errors.Is(err, c.want) || err.Error() != c.text {
				t.Errorf("%s: %d, %v; want %s", name, pid, err, c.text)
			}
		}
	}
	until(t, "word that there is no child", func() bool { _, _, childless := g.Peek(); return childless })
}

// Arguments and a large environment arrive byte for byte. A LISTEN_PID with the pid of graceful (OwnPID) gets the pid
// of the process.
func TestGuard_arguments(t *testing.T) {
	g := startGuard(t)
	file := filepath.Join(t.TempDir(), "out")
	big := strings.Repeat("x", 100<<10)
	s := Spec{
		Program: "/bin/sh", Argv: []string{"sh", "-c", `printf '%s|' "$@" "$B" >` + file, "sh", "", "a b", "\xff\n"},
		OwnPID: 7, Env: []string{"LISTEN_PID=7", "WATCHDOG_PID=8", "B=\xfe"},
	}
	for i := range 15 {
		s.Env = append(s.Env, fmt.Sprintf("BIG%d=%s", i, big))
	}
	s.Argv[2] += `; env | grep LISTEN_PID >>` + file + "; echo $$ >>" + file
	pid, err := g.Start(s, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends(t, g, pid, machine.Ending{})
	got, _ := os.ReadFile(file)
	if want := fmt.Sprintf("|a b|\xff\n|\xfe|LISTEN_PID=%d\n%d\n", pid, pid); string(got) != want {
		t.Errorf("the process got %q, want %q", got, want)
	}
}

// The board records which outputs of a process differ from graceful's.
func TestGuardReplaced(t *testing.T) {
	g := startGuard(t)
	for id, s := range []Spec{{}, {Stdout: 2}, {Stderr: 1}, {Stdout: 2, Stderr: 1}} {
		s.Program, s.Argv = "/bin/true", []string{"true"}
		pid, err := g.Start(s, id)
		if err != nil {
			t.Fatal(err)
		}
		if stdout, stderr := g.Replaced(id); stdout != (s.Stdout != 0) || stderr != (s.Stderr != 0) {
			t.Errorf("command %d: stdout replaced %t, stderr replaced %t", id, stdout, stderr)
		}
		ends(t, g, pid, machine.Ending{})
	}
}

// The guard reaps orphans even if an earlier zombie stays and graceful does not react.
func TestGuard_orphans(t *testing.T) {
	g := startGuard(t)
	const orphans = 300
	pid, err := g.Start(shell(fmt.Sprintf(
		"i=0; while [ $((i += 1)) -le %d ]; do (sleep 0.5 & exit) & done; wait; kill -9 $$", orphans)), 0)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	until(t, "end of all orphans", func() bool { total += g.Orphans(); return total == orphans })
	ends(t, g, pid, machine.Ending{Signal: 9})
}

// The guard reaps all orphans, even if more of them end at once than one call of collect handles.
func TestGuard_manyOrphansAtOnce(t *testing.T) {
	defer func(limit int) { collectLimit = limit }(collectLimit)
	collectLimit = 500
	g := startGuard(t)
	file := filepath.Join(t.TempDir(), "ready")
	orphans := collectLimit + 200
	pid, err := g.Start(shell(fmt.Sprintf("mkfifo %[2]s.fifo; exec 3<>%[2]s.fifo; i=0\n"+
		"while [ $((i += 1)) -le %[1]d ]; do (read x <&3 & exit) & done; wait\n"+
		"trap : TERM; echo >%[2]s; while :; do sleep 1000 & wait; done", orphans, file)), 0)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "orphan", func() bool { _, err := os.Stat(file); return err == nil })
	_ = unix.Kill(g.PID(), unix.SIGSTOP)
	_ = unix.Kill(-pid, unix.SIGTERM)
	until(t, "end of all", func() bool {
		list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", g.PID()))
		living := slices.DeleteFunc(strings.Fields(string(list)), func(child string) bool {
			stat, _ := os.ReadFile("/proc/" + child + "/stat")
			return strings.Contains(string(stat), ") Z ")
		})
		return len(living) == 1 // only the shell is left
	})
	_ = unix.Kill(g.PID(), unix.SIGCONT)
	total := 0
	until(t, "reaping", func() bool { total += g.Orphans(); return total >= orphans })
	_ = unix.Kill(-pid, unix.SIGKILL)
	ends(t, g, pid, machine.Ending{Signal: 9})
	// The guard raises its priority if that is allowed. A process that it starts has the old priority.
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil || raw > 20 {
		t.Skip("an exit status cannot tell a priority above the normal one")
	}
	if guard, _ := unix.Getpriority(unix.PRIO_PROCESS, g.PID()); guard != 20-highest {
		t.Logf("the guard may not raise its priority: %d", 20-guard)
	}
	if pid, err = g.Start(shell("exit $(nice)"), 1); err != nil {
		t.Fatal(err)
	}
	ends(t, g, pid, machine.Ending{Code: 20 - raw})
}

// If the guard is killed right after it has forked a process, that process counts as started, and is not started a
// second time.
func TestAwait_guardEndsAfterTheFork(t *testing.T) {
	s := startTable{board: &board{}}
	err := s.await(1, func() bool {
		s.board.slots[1].pid, s.board.slots[1].startFutex = 7, settled
		return true
	})
	if err != nil {
		t.Errorf("the process was started, but await fails: %v", err)
	}
	if err := s.await(2, func() bool { return true }); !errors.Is(err, ErrGuardEnded) {
		t.Errorf("the process was not started; the error is %v", err)
	}
}

// Many processes run at once. Each has its own slot, even in memory that contained old requests.
func TestGuard_manyProcessesAtOnce(t *testing.T) {
	g := startGuard(t)
	const many = 2 * spareSlots
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[int]int{}
	for id := range many {
		pid, err := g.Start(shell(fmt.Sprintf("read x <>%s; exit %d", fifo, id%256)), id)
		if err != nil {
			t.Fatal(err)
		}
		want[id] = pid
	}
	if got := g.Started(); !maps.Equal(got, want) || g.slots() != many {
		t.Errorf("%d slots hold %v, want %v", g.slots(), got, want)
	}
	for id, pid := range want {
		_ = unix.Kill(pid, unix.SIGKILL)
		if _, err := g.StartOf(pid); err != nil {
			t.Errorf("process %d of command %d: %v", pid, id, err)
		}
	}
	for range many {
		var pid int
		until(t, "end of a process", func() bool { pid, _, _ = g.Peek(); return pid != 0 })
		g.Reap(pid)
		until(t, "reaping", func() bool { return g.slotOf(pid) == nil })
	}
}

// KillChildren kills the children of the guard, except commands.
func TestGuardKillChildren(t *testing.T) {
	g := startGuard(t)
	file := filepath.Join(t.TempDir(), "ready")
	target, err := g.Start(shell("sleep 1000 & echo >"+file+"; exec sleep 1000"), 0)
	if err != nil {
		t.Fatal(err)
	}
	command, err := g.Start(shell("exec sleep 1000"), 1)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "second process", func() bool { _, err := os.Stat(file); return err == nil })
	g.KillChildren()
	ends(t, g, target, machine.Ending{Signal: 9})
	until(t, "orphan", func() bool { g.KillChildren(); return g.Orphans() > 0 })
	if err := unix.Kill(command, 0); err != nil {
		t.Error("the command was killed, too")
	}
	_ = unix.Kill(command, unix.SIGKILL)
	ends(t, g, command, machine.Ending{Signal: 9})
}

// SuspendedBy returns the signal that has suspended the target, once.
func TestGuard_suspensionOfTheTarget(t *testing.T) {
	g := startGuard(t)
	g.RecordSuspensions()
	pid, err := g.Start(shell("kill -TSTP $$; exit 4"), 0)
	if err != nil {
		t.Fatal(err)
	}
	var by syscall.Signal
	until(t, "suspension", func() bool { by = g.SuspendedBy(pid); return by != 0 })
	if again := g.SuspendedBy(pid); by != unix.SIGTSTP || again != 0 {
		t.Errorf("suspended by %v, then by %v", by, again)
	}
	_ = unix.Kill(pid, unix.SIGCONT)
	ends(t, g, pid, machine.Ending{Code: 4})
}

// graceful continues a suspended guard. After the guard has ended, Start starts no process.
func TestGuard_suspendedAndKilled(t *testing.T) {
	g := startGuard(t)
	for range 3 {
		_ = unix.Kill(g.PID(), unix.SIGSTOP)
		pid, err := g.Start(shell("exit 5"), 1)
		if err != nil {
			t.Fatal(err)
		}
		ends(t, g, pid, machine.Ending{Code: 5})
	}
	if g.Ended() {
		t.Error("the guard has ended")
	}
	_ = unix.Kill(g.PID(), unix.SIGKILL)
	if _, err := g.Start(shell("exit 5"), 1); !errors.Is(err, ErrGuardEnded) {
		t.Errorf("a dead guard starts a process: %v", err)
	}
	until(t, "end of the guard", g.Ended)
}

// The guard calls only its own code, the one function that makes system calls, and functions that compiled code uses to
// copy or clear memory and to report an invalid index. Other Go code may need the runtime, which in the guard is only a
// copy without threads.
func TestGuard_calls(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program") // the test binary may have no symbols
	if out, err := exec.Command("go", "test", "-c", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const receivers = `\(\*(guardProcess|request)\)`
	code, err := exec.Command("go", "tool", "objdump", "-s", `^graceful/runner/process\.`+receivers, program).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, function := range []string{"(*guardProcess).run", "(*request).become"} {
		if !strings.Contains(string(code), "TEXT graceful/runner/process."+function+"(SB)") {
			t.Errorf("%s was not examined", function)
		}
	}
	call := regexp.MustCompile(`\t(?:CALL|BL|JMP) ([^\s(]+\([^\s]*|[a-z][^\s]*)\(SB\)`)
	var called []string
	for _, m := range call.FindAllStringSubmatch(string(code), -1) {
		called = append(called, m[1])
	}
	slices.Sort(called)
	called = slices.Compact(called)
	own := regexp.MustCompile(`^(graceful/runner/process\.(` + receivers + `\..*|writeDecimal)|` +
		`syscall\.RawSyscall6|runtime\.(panic(Index|Slice|Bounds).*|memmove.*|memclrNoHeapPointers.*|duff(copy|zero).*))$`)
	if len(called) < 10 {
		t.Fatalf("the guard calls only %q", called)
	}
	for _, name := range called {
		if !own.MatchString(name) {
			t.Errorf("the guard calls %s", name)
		}
	}
}
