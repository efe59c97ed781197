package integration_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// graceful and the guard are killed at once, 200 times at random moments. Without a request, no cleanup command runs
// twice. If any command has run, each other one has run, too, or is reported as interrupted and runs again only on
// request.
func TestRecover_bothKilledAtOnce(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	var mu sync.Mutex
	outcomes := map[string]int{}
	t.Run("group", func(t *testing.T) {
		for worker := range 4 {
			t.Run(strconv.Itoa(worker), func(t *testing.T) {
				t.Parallel()
				for range 50 {
					outcome := killAtRandomMoment(t)
					mu.Lock()
					outcomes[outcome]++
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("outcomes: %v", outcomes)
}

// killAtRandomMoment starts a run, kills graceful and the guard, and checks that recover finishes the run. The outcome
// tells whether a command was interrupted, the run had ended before the kill, no command has run, or recover has
// finished the run without an interrupted command.
func killAtRandomMoment(t *testing.T) (outcome string) {
	dir := filepath.Join(t.TempDir(), "state")
	p := start(t, "graceful", "run", "--state-dir", dir, "--grace", "5s",
		"--on-exit", "echo 1 >>log", "--on-exit", "echo 2 >>log; sleep 0.01", "--on-exit", "echo 3 >>log",
		"--", "sh", "-c", "echo $$ >target; helper daemon daemon; sleep 0.01")
	time.Sleep(time.Duration(rand.IntN(60_000)) * time.Microsecond)
	killBoth(t, p.cmd.Process.Pid)
	status := p.wait()

	runs := func() map[string]int {
		n := map[string]int{}
		data, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		for line := range strings.Lines(string(data)) {
			n[strings.TrimSpace(line)]++
		}
		return n
	}
	p.until("release of the lock", func() bool { return unlocked(t, dir) })
	recovered := start(t, "graceful", "recover", "--state-dir", dir)
	said := recovered.wait()
	text := recovered.text()
	for _, file := range []string{"target", "daemon"} {
		if data, _ := os.ReadFile(filepath.Join(p.dir, file)); len(data) > 0 && alive(p.pidIn(file)) {
			t.Fatalf("the %s is left; recover wrote:\n%s", file, text)
		}
	}
	before := runs()
	interrupted := 0
	for id := 1; id <= 3; id++ {
		lost := strings.Contains(text, fmt.Sprintf("cleanup command interrupted id=%d ", id))
		if lost {
			interrupted++
		}
		switch n := before[strconv.Itoa(id)]; {
		case n > 1, n == 0 && !lost && status == "KILL" && len(before) > 0:
			t.Fatalf("command %d ran %d times; recover wrote (status %s):\n%s\nrun: %s", id, n, said, text, p.text())
		}
	}
	if want := map[bool]string{true: "1", false: "0"}[interrupted > 0]; said != want &&
		!strings.Contains(text, "end of cleanup command not seen") &&
		!strings.Contains(text, "opening the state directory") {
		t.Fatalf("recover ended with %s, want %s, and wrote:\n%s", said, want, text)
	}
	again := start(t, "graceful", "recover", "--state-dir", dir)
	if again.wait(); strings.Contains(text, "state directory") != strings.Contains(again.text(), "state directory") ||
		!strings.Contains(text, "state directory") && again.text() != "" {
		t.Fatalf("a second recover wrote:\n%s", again.text())
	}
	if interrupted > 0 {
		recoverIn(t, dir, "0", "--retry-interrupted")
		if after := runs(); sum(after) != sum(before)+interrupted {
			t.Fatalf("%d commands should run again: before %v, after %v", interrupted, before, after)
		}
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Fatalf("left in the state directory: %v", names)
	}
	switch {
	case interrupted > 0:
		return "a command interrupted"
	case status != "KILL":
		return "over before"
	case len(before) == 0:
		return "not begun"
	}
	return "recovered"
}

// recover does not signal a process with a recorded pid if the record is from another boot, or if the kernel has reused
// the pid.
func TestRecover_reusedPID(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p, lines := startAndKill(t, "target", "target", "--", "sh", "-c", "echo $$ >target; exec sleep 1000")
	kill(t, p.pidIn("target"))
	for _, name := range []string{"another boot", "another start time"} {
		t.Run(name, func(t *testing.T) {
			stranger := start(t, "sleep", "1000")
			pid := stranger.cmd.Process.Pid
			begun := lines[0]
			started := rewriteRecord(t, lines[1], func(r, _ map[string]any) { r["pid"], r["start"] = pid, startTime(t, pid) })
			text := rewriteRecord(t, begun, func(_, begin map[string]any) { markRebooted(begin) }) + started
			if name == "another start time" {
				text = begun + rewriteRecord(t, started, func(r, _ map[string]any) { r["start"] = 1 })
			}
			recoverIn(t, stateDir(t, text), "0")
			if !alive(pid) {
				t.Error("the other process was killed")
			}
			// If both the boot and the start time match, the process is the target.
			recoverIn(t, stateDir(t, begun+started), "0")
			if got := stranger.wait(); got != "TERM" {
				t.Errorf("the process ended with %s", got)
			}
		})
	}
}

// recover ends orphans of a killed run, in any session. recover finds them by the run's id in their environment.
func TestRecover_findsOrphans(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p, _ := startAndKill(t, "target", "ready", "--grace", "100ms", "--on-exit", "echo $GRACEFUL_REASON >>log", "--", "sh",
		"-c", "helper daemon daemon; helper ignore TERM -- stubborn & echo $$ >target; echo >ready; wait")
	daemon, stubborn, target := p.pidIn("daemon"), p.pidIn("stubborn"), p.pidIn("target")
	dir := filepath.Join(filepath.Dir(stateOf(p)), "state")
	recoverIn(t, dir, "0")
	for _, pid := range []int{daemon, stubborn, target} {
		if alive(pid) {
			t.Errorf("process %d (%s) is left", pid, comm(pid))
		}
	}
	p.wantFile("log", "recovered\n")
}

// If several runs with the same given name start at once, at least one of them runs, and no two run at the same time.
// While a run of that name is alive, a new run waits for a short time (lockPatience in runner), and is then refused.
func TestName_startedAtOnce(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	both := t.TempDir()
	ran := 0
	for range 20 {
		dir := filepath.Join(t.TempDir(), "state")
		var procs []*proc
		for range 3 {
			procs = append(procs, start(t, "graceful", "run", "--name", "x", "--state-dir", dir, "--", "sh", "-c",
				`mkdir "$0/lock" || exit 99; sleep 0.02; rmdir "$0/lock"`, both))
		}
		for _, p := range procs {
			switch got := p.wait(); {
			case got == "0":
				ran++
			case got == "125" && strings.Contains(p.text(), "a run named x lives"):
			default:
				t.Fatalf("a run ended with %s:\n%s", got, p.text())
			}
		}
	}
	if ran < 20 {
		t.Errorf("%d runs ran in 20 rounds", ran)
	}
	t.Logf("%d of 60 runs were not refused", ran)
}

// interruptedRun kills a run named x while its only cleanup command runs, and then kills the command. recover reports
// the interruption and sets the ledger aside. command must write its pid to the file hook. p is the run, and dir its
// state directory.
func interruptedRun(t *testing.T, command string) (p *proc, dir string) {
	t.Helper()
	p, _ = startAndKill(t, "command", "hook", "--on-exit", command, "--", "true")
	p.killAndWait(p.pidIn("hook"))
	dir = stateOf(p)
	if said := recoverIn(t, dir, "1"); !strings.Contains(said, "command interrupted") ||
		inDir(t, dir) != "x.ledger.interrupted" {
		t.Fatalf("the state directory has %s; recover wrote:\n%s", inDir(t, dir), said)
	}
	return p, dir
}

// recover does not retry an interrupted run while a run of its name is alive.
func TestRetryInterrupted_besideALiveRun(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p, dir := interruptedRun(t, "echo 1 >>log; echo $$ >hook; [ -e again ] || exec sleep 1000")
	if err := os.WriteFile(filepath.Join(p.dir, "again"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	live := start(t, "graceful", "run", "--name", "x", "--state-dir", dir, "--", "sh", "-c",
		"echo >ready; exec sleep 1000")
	live.waitForFile("ready")
	if said := recoverIn(t, dir, "1", "--retry-interrupted"); strings.Count(said, "\n") != 1 ||
		!strings.Contains(said, "a run named x lives") {
		t.Errorf("recover wrote:\n%s", said)
	}
	if said := recoverIn(t, dir, "0", "--retry-interrupted", "--name", "y"); said != "" {
		t.Errorf("recover of another name wrote:\n%s", said)
	}
	p.wantFile("log", "1\n")
	live.signal(unix.SIGTERM)
	live.want("143")
	if got := inDir(t, dir); got != "x.ledger.interrupted" {
		t.Errorf("the state directory has %s", got)
	}
	recoverIn(t, dir, "0", "--retry-interrupted")
	p.wantFile("log", "1\n1\n")
	if got := inDir(t, dir); got != "" {
		t.Errorf("left in the state directory: %s", got)
	}
}

// During a retry, the name of the run is taken. If the retry is killed, the next recover reports the command as
// interrupted again, and does not run it.
func TestRetryInterrupted_killed(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p, dir := interruptedRun(t, "echo 1 >>log; echo $$ >hook; exec sleep 1000")
	if err := os.Remove(filepath.Join(p.dir, "hook")); err != nil {
		t.Fatal(err)
	}
	retry := start(t, "graceful", "recover", "--state-dir", dir, "--retry-interrupted")
	hook := p.pidIn("hook")
	n := start(t, "graceful", "run", "--name", "x", "--state-dir", dir, "--", "true")
	n.waitForText("waiting until a killed run is finished")
	n.signal(unix.SIGTERM)
	n.want("143")
	retry.signal(unix.SIGKILL)
	retry.want("KILL")
	p.killAndWait(hook)
	if said := recoverIn(t, dir, "1"); !strings.Contains(said, "command interrupted") {
		t.Errorf("recover wrote:\n%s", said)
	}
	if said := recoverIn(t, dir, "0"); said != "" {
		t.Errorf("a second recover wrote:\n%s", said)
	}
	p.wantFile("log", "1\n1\n")

	// Pretend that a retry was killed just after it had taken the name. recover also reports that run.
	named := func() {
		if err := os.Rename(filepath.Join(dir, "x.ledger.interrupted"), filepath.Join(dir, "x.ledger")); err != nil {
			t.Fatal(err)
		}
	}
	named()
	said := recoverIn(t, dir, "1")
	if !strings.Contains(said, "command interrupted") || inDir(t, dir) != "x.ledger.interrupted" {
		t.Errorf("the state directory has %s; recover wrote:\n%s", inDir(t, dir), said)
	}
	p.wantFile("log", "1\n1\n")

	// The next run of that name also reports the killed retry, and then begins.
	named()
	n = start(t, "graceful", "run", "--name", "x", "--state-dir", dir, "--", "sh", "-c", "exit 3")
	n.want("3")
	if said := n.text(); !strings.Contains(said, "command interrupted") || inDir(t, dir) != "x.ledger.interrupted" {
		t.Errorf("the state directory has %s; run wrote:\n%s", inDir(t, dir), said)
	}
}
