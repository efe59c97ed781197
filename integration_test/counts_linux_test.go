package integration_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A launch makes no more system calls than the limits, which are 15 % above their number when the limits were set. How
// often the Go runtime waits depends on the machine's load, so these calls do not count.
func TestLaunch_systemCalls(t *testing.T) {
	need(t, "linux", "strace")
	waits := []string{"futex", "nanosleep", "clock_nanosleep", "sched_yield"}
	for guard, limit := range map[string]int{"on": maxCallsGuarded, "off": maxCallsUnguarded} {
		t.Run("guard "+guard, func(t *testing.T) {
			calls := callsOfLaunch(t, plain, "run", "--guard", guard, "--")
			total := 0
			for name, n := range calls {
				if !slices.Contains(waits, name) && !strings.HasPrefix(name, "epoll_") {
					total += n
				}
			}
			t.Logf("%d system calls", total)
			if total > limit {
				t.Errorf("a launch makes %d system calls, want at most %d:\n%s", total, limit, counted(calls))
			}
		})
	}
}

// On 2026-11-29 a launch made 1,034 and 502 of these calls.
const (
	maxCallsGuarded   = 735
	maxCallsUnguarded = 615
)

// counted lists calls by their number, the most frequent first.
func counted(calls map[string]int) string {
	names := slices.SortedFunc(maps.Keys(calls), func(a, b string) int { return calls[b] - calls[a] })
	text := ""
	for _, name := range names {
		text += fmt.Sprintf("%6d %s\n", calls[name], name)
	}
	return text
}

// A container's pids limit counts threads. All that a run needs are there when its target is there. On a busy machine
// the Go runtime adds one or two, so the smallest of some launches counts.
func TestLaunch_threads(t *testing.T) {
	need(t, "linux")
	const launches = 5
	for guard, limit := range map[string]int{"on": 11, "off": 10} {
		t.Run("guard "+guard, func(t *testing.T) {
			var counts []int
			for range launches {
				counts = append(counts, threadsOfIdleRun(t, guard))
			}
			t.Logf("threads: %v", counts)
			if n := slices.Min(counts); n > limit {
				t.Errorf("graceful has %d threads, want at most %d", n, limit)
			}
		})
	}
}

// threadsOfIdleRun returns how many threads graceful has in all its processes, without the target's.
func threadsOfIdleRun(t *testing.T, guard string) int {
	t.Helper()
	p := start(t, plain, "run", "--guard", guard, "--", "helper", "stay")
	leader, target := p.cmd.Process.Pid, 0
	p.until("target", func() bool { target = helperBelow(leader); return target != 0 })
	own := append([]int{leader}, descendantsOf(leader)...)
	n := countThreads(t, slices.DeleteFunc(own, func(pid int) bool { return pid == target }))
	p.signal(unix.SIGTERM)
	p.want("143")
	return n
}
