package integration_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A launch makes no more system calls than the limits allow. Each limit was set 15 % above the measured number. The
// test ignores calls in which the Go runtime waits, because their number depends on the load of the machine.
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

// The limits are from measurements on 2026-11-30, when a launch made 658 and 528 of these calls.
const (
	maxCallsGuarded   = 735
	maxCallsUnguarded = 615
)

// Without a guard, graceful reaps the orphans that its target leaves before it examines the survivors. So it does not
// read a file of /proc for each of them.
func TestTree_orphansAreReapedUnread(t *testing.T) {
	need(t, "linux", "strace")
	const orphans = 1000
	trace := filepath.Join(t.TempDir(), "trace")
	run := exec.Command("strace", "-f", "-qq", "-e", "trace=openat", "-o", trace,
		plain, "run", "--guard", "off", "--verbose", "--", "helper", "leave", strconv.Itoa(orphans))
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	if read := strings.Count(string(calls), `/stat"`); read > orphans/10 {
		t.Errorf("graceful read /proc/PID/stat %d times for %d orphans", read, orphans)
	}
	if reaped := strings.Count(string(out), "reaped an orphan"); reaped != orphans {
		t.Errorf("graceful reaped %d orphans, want %d", reaped, orphans)
	}
}

// counted lists calls with their numbers, the most frequent first.
func counted(calls map[string]int) string {
	names := slices.SortedFunc(maps.Keys(calls), func(a, b string) int { return calls[b] - calls[a] })
	text := ""
	for _, name := range names {
		text += fmt.Sprintf("%6d %s\n", calls[name], name)
	}
	return text
}

// The pids limit of a container counts threads. So all threads that a run needs must exist when its target exists. On
// a busy machine the Go runtime adds one or two threads. So the test takes the minimum of some launches.
func TestLaunch_threads(t *testing.T) {
	need(t, "linux")
	const launches = 5
	for guard, limit := range map[string]int{"on": 9, "off": 8} {
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

// The private memory of graceful is mostly the heap and the stacks of the Go runtime. (Pss_Dirty would include pages of
// a program that was just built.) On a busy machine the runtime adds a thread or two, so the test takes the minimum of
// some launches.
func TestLaunch_memory(t *testing.T) {
	need(t, "linux", "norace")
	const launches = 5
	for guard, limit := range map[string]int{"on": 2600, "off": 2000} { // kB; 1,860 and 1,290 on 2026-11-30
		t.Run("guard "+guard, func(t *testing.T) {
			var sizes []int
			for range launches {
				idleRun(t, guard, func(own []int) {
					size := 0
					for _, pid := range own {
						size += memoryOf(t, pid)["Pss_Anon"] + memoryOf(t, pid)["Pss_Shmem"]
					}
					sizes = append(sizes, size)
				})
			}
			t.Logf("private memory: %v kB", sizes)
			if size := slices.Min(sizes); size > limit {
				t.Errorf("graceful has %d kB, want at most %d", size, limit)
			}
		})
	}
}

// While its target waits, no thread of graceful runs.
func TestLaunch_wakeups(t *testing.T) {
	need(t, "linux")
	for _, guard := range []string{"on", "off"} {
		t.Run("guard "+guard, func(t *testing.T) {
			t.Parallel()
			idleRun(t, guard, func(own []int) {
				// Try again as long as graceful wakes. At first the Go runtime may still return memory to the kernel.
				// Its monitor thread stops when no other thread runs.
				before := switches(t, own)
				for tries := 0; ; tries++ {
					time.Sleep(2 * time.Second)
					now := switches(t, own)
					if now == before {
						return
					}
					if tries == 10 {
						t.Fatalf("graceful woke %d times in two seconds", now-before)
					}
					before = now
				}
			})
		})
	}
}

// switches returns the number of voluntary context switches of all threads of some processes together.
func switches(t *testing.T, pids []int) (n int) {
	t.Helper()
	for _, pid := range pids {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, _ := os.ReadFile(file)
			_, rest, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
			fields := strings.Fields(rest)
			if len(fields) == 0 {
				t.Fatalf("%s has no count:\n%s", file, text)
			}
			count, _ := strconv.Atoi(fields[0])
			n += count
		}
	}
	return n
}

// The size of the released binary has a limit.
func TestBinary_size(t *testing.T) {
	need(t, "linux")
	if runtime.GOARCH != "amd64" {
		t.Skip("the limit is for amd64")
	}
	const limit = 4_900_000 // bytes; 4,878,000 on 2026-11-30
	binary := filepath.Join(t.TempDir(), "graceful")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	st, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", st.Size())
	if st.Size() > limit {
		t.Errorf("the binary has %d bytes, want at most %d", st.Size(), limit)
	}
}

// threadsOfIdleRun returns the number of threads in all processes of graceful while its target waits.
func threadsOfIdleRun(t *testing.T, guard string) (n int) {
	idleRun(t, guard, func(own []int) { n = countThreads(t, own) })
	return n
}

// idleRun calls look with the processes of graceful while the target waits.
func idleRun(t *testing.T, guard string, look func(own []int)) {
	t.Helper()
	p := start(t, plain, "run", "--guard", guard, "--", "helper", "stay")
	leader, target := p.cmd.Process.Pid, 0
	p.until("target", func() bool { target = helperBelow(leader); return target != 0 })
	own := append([]int{leader}, descendantsOf(leader)...)
	look(slices.DeleteFunc(own, func(pid int) bool { return pid == target }))
	p.signal(unix.SIGTERM)
	p.want("143")
}
