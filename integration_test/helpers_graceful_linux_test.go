package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace prepares a program in a new PID namespace: as PID 1 if asPID1 is true, or else as a child of PID 1, which
// is a shell.
func inNamespace(t *testing.T, asPID1 bool, args ...string) *proc {
	t.Helper()
	need(t, "linux", "pidns")
	if !asPID1 {
		// Add a command after the program, so that the shell forks for the program, and stays as PID 1.
		args = append([]string{"sh", "-c", `"$@"; exit $?`, "sh"}, args...)
	}
	return command(t, append([]string{"unshare"}, pidNamespace(args...)...)...)
}

// bothModes runs a test with graceful as PID 1 of a namespace, and below PID 1.
func bothModes(t *testing.T, test func(t *testing.T, asPID1 bool)) {
	t.Run("as PID 1", func(t *testing.T) { t.Parallel(); test(t, true) })
	t.Run("as subreaper", func(t *testing.T) { t.Parallel(); test(t, false) })
}

// gracefulPID waits for graceful at or below the process of p, for instance a program from inNamespace, and returns the
// pid of graceful. Of several, it returns the one with the fewest ancestors.
func gracefulPID(p *proc) int {
	p.t.Helper()
	var found int
	p.until("graceful below unshare", func() bool {
		queue := []int{p.cmd.Process.Pid}
		for len(queue) > 0 {
			pid := queue[0]
			queue = queue[1:]
			if comm(pid) == "graceful" {
				found = pid
				return true
			}
			queue = append(queue, childrenOf(pid)...)
		}
		return false
	})
	return found
}

// guardOf returns the pid of the parent of the target. That is the guard, or graceful itself if it has no guard.
func guardOf(graceful int) int {
	for _, child := range childrenOf(graceful) {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
		if strings.HasPrefix(string(cmdline), "graceful: guard\x00") {
			return child
		}
	}
	return graceful
}

// guard waits until a run has a guard, and returns its pid.
func (p *proc) guard() int {
	p.t.Helper()
	var pid int
	p.until("guard", func() bool {
		pid = guardOf(p.cmd.Process.Pid)
		return pid != p.cmd.Process.Pid
	})
	return pid
}

// loseGuard kills the guard, and waits until graceful has reaped it.
func (p *proc) loseGuard() {
	p.t.Helper()
	guard := p.guard()
	kill(p.t, guard)
	p.untilReaped(guard)
}

// successor waits for the graceful that the guard has started, and returns the pid of that graceful.
func (p *proc) successor(guard int) (pid int) {
	p.t.Helper()
	p.until("new graceful", func() bool {
		for _, child := range childrenOf(guard) {
			cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
			if strings.HasPrefix(string(cmdline), "graceful: taking over\x00") {
				pid = child
			}
		}
		return pid != 0
	})
	return pid
}

// killBoth kills graceful and all of its children, and returns when they have ended. If graceful has a guard, the guard
// is its only child, and neither of them can react to the end of the other. If graceful has been reaped, killBoth does
// nothing.
func killBoth(t testing.TB, leader int) {
	t.Helper()
	if unix.Kill(leader, unix.SIGSTOP) != nil {
		return
	}
	// A thread that waits for the execve(2) of its child (vfork(2)) cannot be suspended yet. But the thread can be
	// killed, and its child already exists.
	stopped := func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", leader))
		return !slices.ContainsFunc(threads, func(thread string) bool {
			stat, _ := os.ReadFile(thread + "/stat")
			_, rest, _ := strings.Cut(string(stat), ") ")
			return rest != "" && !strings.ContainsAny(rest[:1], "TDZX")
		})
	}
	for deadline := time.Now().Add(patience); !stopped(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal("graceful is not suspended")
		}
	}
	both := append(childrenOf(leader), leader)
	kill(t, both...)
	for deadline := time.Now().Add(patience); slices.ContainsFunc(both, alive); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal("a killed process is alive")
		}
	}
}

// killBothAndUnlock kills graceful and its guard, and waits until the ledgers in a state directory are unlocked.
func (p *proc) killBothAndUnlock(t *testing.T, state string) {
	t.Helper()
	killBoth(t, p.cmd.Process.Pid)
	p.want("KILL")
	p.until("release of the lock", func() bool { return unlocked(t, state) })
}

// waitForText waits until the output of a program contains a text.
func (p *proc) waitForText(text string) {
	p.t.Helper()
	p.until("message "+text, func() bool { return strings.Contains(p.text(), text) })
}
