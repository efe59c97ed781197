package integration_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A launch makes no more system calls than the limits allow. The test ignores the epoll calls, and the calls in which
// the Go runtime waits, because their number depends on the load of the machine.
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

// The limits are 12 % and 16 % above the numbers of 2026-11-30, when a launch made 658 and 528 of these calls.
const (
	maxCallsGuarded   = 735
	maxCallsUnguarded = 615
)

// Without a guard, graceful first reaps the orphans that the target leaves, and then examines the survivors. So
// graceful does not read a file of /proc for each orphan.
func TestTree_orphansAreReapedUnread(t *testing.T) {
	need(t, "linux", "strace")
	const orphans = 1000
	trace := filepath.Join(t.TempDir(), "trace")
	run := exec.Command("strace", "-f", "-qq", "-e", "trace=openat", "-o", trace,
		plain, "run", "--guard", "off", "--verbose", "--", "helper", "leave-orphans", strconv.Itoa(orphans))
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

// counted lists calls and how often they were made, the most frequent first.
func counted(calls map[string]int) string {
	names := slices.SortedFunc(maps.Keys(calls), func(a, b string) int { return calls[b] - calls[a] })
	text := ""
	for _, name := range names {
		text += fmt.Sprintf("%6d %s\n", calls[name], name)
	}
	return text
}

// An idle run has no more threads of graceful than the limit: a container's pids limit counts threads, so all threads
// that a run needs must exist when its target exists. On a busy machine the Go runtime adds one or two threads, so the
// test takes the minimum of some launches.
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

// The private memory of an idle graceful and its guard has a limit. That memory is mostly the heap and the stacks of
// the Go runtime. The test adds Pss_Anon and Pss_Shmem, since Pss_Dirty includes pages of a program that is new. On
// a busy machine the runtime adds a thread or two, so the test takes the minimum of some launches.
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

// While the target waits, no thread of graceful or the guard runs.
func TestLaunch_wakeups(t *testing.T) {
	need(t, "linux")
	for _, guard := range []string{"on", "off"} {
		t.Run("guard "+guard, func(t *testing.T) {
			t.Parallel()
			idleRun(t, guard, func(own []int) {
				// Try again as long as graceful wakes. At first the Go runtime may still return memory to the kernel.
				// The monitor thread of the runtime stops when no other thread runs.
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

// idleRun starts a run, and calls look with the pids of graceful and the guard while the target waits.
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

// While the target is idle, graceful and the guard make no system calls.
func TestLaunch_idleRunMakesNoSystemCalls(t *testing.T) {
	need(t, "linux", "strace", "norace")
	p := start(t, "graceful", "run", "--", "sleep", "1000")
	leader, guard := p.cmd.Process.Pid, p.guard()
	p.until("start of the target", func() bool { return len(childrenOf(guard)) > 0 })
	// The Go runtime completes the work after its start within a short time. A program that polls would never be idle.
	p.until("second without a system call", func() bool {
		s := start(t, "strace", "-f", "-qq", "-e", "trace=all", "-o", "trace", "-p", strconv.Itoa(leader), "-p",
			strconv.Itoa(guard))
		s.until("attachment", func() bool { return tracer(leader) != 0 && tracer(guard) != 0 })
		time.Sleep(time.Second)
		s.signal(unix.SIGINT)
		s.wait()
		trace, _ := os.ReadFile(filepath.Join(s.dir, "trace"))
		// Calls that were waiting when strace attached or detached do not count.
		const waiting = `(?m)^\d+ +(?:[a-z_0-9]+\(.*<(detached \.\.\.|unfinished \.\.\.)?>?|restart_syscall\(.*)$`
		calls := regexp.MustCompile(waiting).ReplaceAllString(string(trace), "")
		calls = strings.TrimSpace(calls)
		if calls != "" {
			t.Logf("system calls in one second:\n%s", calls)
		}
		return calls == ""
	})
	p.signal(unix.SIGTERM)
	p.want("143")
}

func tracer(pid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "TracerPid:")
	n, _ := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	return n
}

// The tree may use up all processes that graceful may have. So graceful must not create a thread after it has started a
// process, and the guard must not create any.
func TestLaunch_noThreadsAfterTheStart(t *testing.T) {
	need(t, "linux", "strace", "norace")
	for _, victim := range []string{"nothing", "guard", "graceful"} {
		for _, pty := range []string{"--pty=false", "--pty=true"} {
			t.Run(victim+" is killed, "+pty, func(t *testing.T) {
				p := start(t, "strace", "-f", "-qq", "-o", "trace", "-e", "trace=clone,clone3,fork,vfork,execve",
					"graceful", "run", pty, "-v", "--grace", "200ms", "--on-exit", "echo >cleaned", "--on-exit", "sleep 0.1",
					"--on-exit-order", "parallel", "--",
					"sh", "-c", "helper daemon daemon; exec helper count got")
				p.pidIn("got.pid")
				p.pidIn("daemon")
				leader, status := gracefulPID(p), "137"
				guard := guardOf(leader)
				switch victim {
				case "guard":
					kill(t, guard)
				case "graceful":
					kill(t, leader)
					status = "KILL"
				}
				for range 500 {
					for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGHUP, unix.SIGWINCH, 40} {
						_ = unix.Kill(leader, sig)
					}
				}
				_ = unix.Kill(leader, unix.SIGTERM)
				p.want(status)
				trace, err := os.ReadFile(filepath.Join(p.dir, "trace"))
				if err != nil {
					t.Fatal(err)
				}
				threads, late := threadsOf(leader, string(trace))
				if threads < 4 {
					t.Fatalf("the trace is unclear: %d threads of %d\n%s", threads, leader, trace)
				}
				if late != "" {
					t.Errorf("threads that graceful created after it had started a process:\n%s", late)
				}
				if threads, _ := threadsOf(guard, string(trace)); threads > 0 {
					t.Errorf("the guard created %d threads:\n%s", threads, trace)
				}
			})
		}
	}
}

// threadsOf counts the threads that a process has created, according to a trace. late contains the lines of the trace
// in which the process created a thread after its first child process.
func threadsOf(pid int, trace string) (threads int, late string) {
	own := map[string]bool{strconv.Itoa(pid): true}
	making := map[string]bool{} // threads that are creating a thread
	started := false
	for line := range strings.Lines(trace) {
		task, call, _ := strings.Cut(line, " ")
		if !own[task] {
			continue
		}
		resumed := strings.Contains(call, "clone resumed>")
		switch {
		case strings.Contains(call, "flags=SIGCHLD"):
			started = true
		case strings.Contains(call, "CLONE_THREAD"):
			threads++
			making[task] = true
			if started {
				late += line
			}
		case !resumed:
			continue
		}
		if made := regexp.MustCompile(`= (\d+)$`).FindStringSubmatch(strings.TrimSpace(call)); made != nil && making[task] {
			own[made[1]] = true
			delete(making, task)
		}
	}
	return threads, late
}
