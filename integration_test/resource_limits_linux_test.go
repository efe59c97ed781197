package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The tree uses up all processes that it and graceful may have. graceful keeps the exit status, ends the tree, and runs
// the cleanup commands.
func TestTree_usesUpAllProcesses(t *testing.T) {
	check := func(t *testing.T, p *proc) {
		t.Helper()
		if n, _ := strconv.Atoi(strings.TrimSpace(p.waitForFile("forked"))); n < 10 {
			t.Fatalf("the tree got no more than %d processes: this limit is too low to show anything", n)
		}
		p.until("output", func() bool { return strings.HasPrefix(p.text(), "exhausted") })
		if err := unix.Kill(gracefulPID(p), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.want("143")
		text := withoutLog(p.text())
		if !strings.HasSuffix(text, "cleaned 2\ncleaned 1\n") || strings.Contains(text, "SIG: ") {
			t.Errorf("it wrote:\n%s", text)
		}
	}
	for pty, uid := range map[string]string{"--pty=false": "54326", "--pty=true": "54327"} {
		run := []string{plain, "run", pty, "--grace", "100ms", "--on-exit", "echo cleaned 1", "--on-exit",
			`["/bin/echo", "cleaned", "2"]`, "--",
			"helper", "exhaust", "forked"}
		t.Run("RLIMIT_NPROC, "+pty, func(t *testing.T) {
			need(t, "root", "setpriv", "prlimit") // graceful runs as another user: root has no limit
			t.Parallel()
			p := inNamespace(t, true, append([]string{"prlimit", "--nproc=64", "setpriv", "--reuid=" + uid, "--clear-groups"},
				run...)...)
			if err := os.Chmod(p.dir, 0o777); err != nil {
				t.Fatal(err)
			}
			p.start()
			check(t, p)
		})
		t.Run("pids limit of a cgroup, "+pty, func(t *testing.T) {
			need(t, "root")
			t.Parallel()
			limit := cgroupWith(t, "pids", "pids.max")
			if err := os.WriteFile(limit, []byte("64"), 0o644); err != nil {
				t.Fatal(err)
			}
			// Writing 0 moves the writing process itself.
			p := inNamespace(t, false, append([]string{"sh", "-c", `echo 0 >"$0"/cgroup.procs && exec "$@"`,
				filepath.Dir(limit)}, run...)...)
			p.start()
			check(t, p)
		})
	}
}

// A limit on file sizes is lowered to 100 bytes while graceful runs. graceful can then not append to the ledger, and
// its log ends after 100 bytes. A stop and cleanup still work. The kernel sends SIGXFSZ to the writing process, and
// graceful does not forward that signal.
func TestRun_fileSizeLimitLowered(t *testing.T) {
	need(t, "linux", "prlimit")
	for name, flags := range map[string][]string{"in a file": {"--state-dir", "state"}, "in memory": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, slices.Concat([]string{"graceful", "run", "--grace", "100ms"}, flags,
				[]string{"--on-exit", "echo 1 >>cleaned", "--", "helper", "count", "seen"})...)
			p.pidIn("seen.pid")
			for _, pid := range []int{p.cmd.Process.Pid, p.guard()} {
				if out, err := exec.Command("prlimit", "--pid", strconv.Itoa(pid), "--fsize=100:").CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			p.signal(unix.SIGTERM)
			p.want("137")
			if got := counts(p, "seen"); got[unix.SIGTERM] != 1 || got[unix.SIGXFSZ] != 0 {
				t.Errorf("the target got the signals %v", got)
			}
			p.wantFile("cleaned", "1\n")
			if text := p.text(); len(text) != 100 || !strings.HasPrefix(text, "graceful: writing the ledger: appending to ") {
				t.Errorf("it wrote:\n%s", text)
			}
		})
	}
}

// With any limit of descriptors, graceful either performs the whole run, or starts no process and names the limit.
// graceful never takes a lack of descriptors for a missing /proc.
func TestLimits_descriptors(t *testing.T) {
	need(t, "linux", "setsid")
	begun := regexp.MustCompile(`started (\d+)`)
	for _, flags := range []string{
		"", "--guard off", "--guard on", "--pty", "--state-dir state", "--report report", "--contain subreaper",
		"--guard off --defer off --log-format json", "--pty --guard on --state-dir state --report report",
	} {
		t.Run(flags, func(t *testing.T) {
			t.Parallel()
			for n := 3; n <= 24; n++ {
				// The script uses no redirection, since that would need a descriptor.
				p := start(t, "sh", "-c", fmt.Sprintf(
					`ulimit -n %d; exec %s run %s --on-exit 'echo cleaned' -- sh -c 'setsid sleep 1000 & echo started $!'`,
					n, plain, flags))
				status, text := p.wait(), p.text()
				started := begun.FindStringSubmatch(text)
				refused := status == "125" && started == nil && !strings.Contains(text, "cleaned\n") &&
					strings.Contains(text, "too many open files (too few descriptors are allowed: see ulimit -n)")
				performed := status == "0" && started != nil && strings.Contains(text, "cleaned\n")
				misled := strings.Contains(text, "/proc is missing") || strings.Contains(text, "containment is limited") ||
					strings.Contains(text, "fatal error")
				if misled || refused == performed {
					t.Errorf("%d descriptors: status %s; it wrote:\n%s", n, status, text)
				}
				if started == nil {
					continue
				}
				if pid, err := strconv.Atoi(started[1]); err != nil || unix.Kill(pid, 0) == nil {
					t.Errorf("%d descriptors: process %d of the tree is still alive, %v; graceful wrote:\n%s", n, pid, err, text)
				}
			}
		})
	}
}

// A child of the target exceeds a memory limit, and the kernel kills the target, the guard or graceful. All processes
// of the run end, and each cleanup command runs once.
func TestRun_outOfMemoryKiller(t *testing.T) {
	for name, c := range map[string]struct{ victim, target, status, cleaned string }{
		"kills the target": {"parent", waitForever, "137", "2 signaled\n1 signaled\n"},
		"kills the guard":  {"grandparent", "while kill -0 $PPID; do sleep 0.01; done; exit 7", "7", "2 exited\n1 exited\n"},
		"kills graceful":   {"great-grandparent", waitForever, "137", cleanedAfterKill},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, "root")
			t.Parallel()
			limit := cgroupWith(t, "memory", "memory.max", "memory.limit_in_bytes")
			group := filepath.Dir(limit)
			// The limit must be much more than the processes use before the helper allocates memory. For each point of
			// oom_score_adj, the kernel adds a thousandth of the limit to the memory of a process, in whole pages.
			if err := os.WriteFile(limit, []byte("250M"), 0o644); err != nil {
				t.Fatal(err)
			}
			// Forbid swapping. The file for that depends on the version of cgroups.
			for _, file := range []string{"memory.swap.max", "memory.swappiness"} {
				_ = os.WriteFile(filepath.Join(group, file), []byte("0"), 0o644)
			}
			step := run(anHour, startFamily+"helper provoke-oom-kill "+c.victim+" & "+c.target, cleanAndCount)
			args := append([]string{"sh", "-c", `echo 0 >"$0"/cgroup.procs && exec "$@"`, group, "helper", "reap"}, step...)
			for tries := 1; ; tries++ {
				before := outOfMemoryKills(t, group)
				p := inNamespace(t, true, args...).start()
				status := p.wait()
				cleaned, _ := os.ReadFile(filepath.Join(p.dir, "cleaned"))
				if status == c.status && string(cleaned) == c.cleaned {
					return
				}
				// The kernel may kill further processes before the memory of the victim is free. In that case, try
				// again.
				if killed := outOfMemoryKills(t, group) - before; killed == 1 || tries == 5 {
					t.Fatalf("exit status %s, want %s; cleaned is %q, want %q; the kernel has killed %d; it wrote:\n%s",
						status, c.status, cleaned, c.cleaned, killed, p.text())
				}
			}
		})
	}
}

// outOfMemoryKills returns the number of processes in a cgroup that the out-of-memory killer has killed.
func outOfMemoryKills(t *testing.T, group string) (kills int) {
	t.Helper()
	for _, file := range []string{"memory.events", "memory.oom_control"} {
		data, _ := os.ReadFile(filepath.Join(group, file))
		for line := range strings.Lines(string(data)) {
			if _, err := fmt.Sscanf(line, "oom_kill %d", &kills); err == nil {
				return kills
			}
		}
	}
	t.Fatal("the cgroup does not count the processes that were killed")
	return 0
}
