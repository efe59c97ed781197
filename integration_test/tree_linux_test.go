package integration_test

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"graceful/runner/process"
)

// census is a cleanup command for a PID namespace. That namespace should contain only unshare's child, graceful,
// perhaps its guard, and the census itself (a shell with its children). census counts all other processes, living and
// zombie.
const census = `n=0; read -r pid name state leader rest </proc/$PPID/stat; for p in /proc/[0-9]*; do
	read -r pid name state ppid rest <$p/stat 2>/dev/null || continue
	case $pid in 1|$$|$PPID|$leader) ;; *) n=$((n+1)); echo "left: $pid $name $state $ppid";; esac
done; echo "census: $n"`

// inNamespace prepares graceful as PID 1 of a new namespace, or below PID 1.
func inNamespace(t *testing.T, asPID1 bool, args ...string) *proc {
	t.Helper()
	need(t, "linux", "pidns")
	if !asPID1 {
		// Add a command after graceful, so that the shell stays instead of executing graceful by itself.
		args = append([]string{"sh", "-c", `"$@"; exit $?`, "sh"}, args...)
	}
	return command(t, append([]string{"unshare"}, pidNamespace(args...)...)...)
}

// gracefulPID finds the graceful below a process that inNamespace started.
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

// guardOf returns the parent of the target. That is the guard, or graceful if it has no guard.
func guardOf(graceful int) int {
	for _, child := range childrenOf(graceful) {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
		if strings.HasPrefix(string(cmdline), "graceful: guard\x00") {
			return child
		}
	}
	return graceful
}

func comm(pid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(name))
}

func childrenOf(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		for field := range strings.FieldsSeq(string(data)) {
			child, _ := strconv.Atoi(field)
			pids = append(pids, child)
		}
	}
	return pids
}

func bothModes(t *testing.T, test func(t *testing.T, asPID1 bool)) {
	t.Run("as PID 1", func(t *testing.T) { t.Parallel(); test(t, true) })
	t.Run("as subreaper", func(t *testing.T) { t.Parallel(); test(t, false) })
}

// The tree forks as fast as it can while it is being killed. Its processes live only until they have forked.
func TestTree_forkStorm(t *testing.T) {
	for _, storm := range [][]string{{"relay", "8"}, {"breed", "3000"}} {
		t.Run(storm[0], func(t *testing.T) {
			bothModes(t, func(t *testing.T, asPID1 bool) {
				p := inNamespace(t, asPID1, append([]string{"graceful", "run", "--grace", "0", "--on-exit", census, "--", "helper"},
					storm...)...).start()
				pid := gracefulPID(p)
				p.file("storm")
				time.Sleep(50 * time.Millisecond) // let some processes fork; their number does not matter
				if err := unix.Kill(pid, unix.SIGTERM); err != nil {
					t.Fatal(err)
				}
				p.want("137")
				if last := lastLine(p.text()); last != "census: 0" {
					t.Errorf("processes were left when the cleanup began:\n%s", p.text())
				}
			})
		})
	}
}

// Orphans are reaped as they end, while the target runs: 10,000 orphans leave no zombie.
func TestTree_reapsOrphans(t *testing.T) {
	bothModes(t, func(t *testing.T, asPID1 bool) {
		p := inNamespace(t, asPID1, "graceful", "run", "--on-exit", census, "--", "sh", "-c",
			`for i in 1 2 3 4 5 6 7 8 9 10; do (helper orphans 1000); done; echo done >done; sleep 1000`).start()
		p.file("done")
		pid := gracefulPID(p)
		p.until("reaping of all orphans", func() bool { return len(childrenOf(guardOf(pid))) == 1 }) // the target
		if err := unix.Kill(pid, unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.want("143")
		if last := lastLine(p.text()); last != "census: 0" {
			t.Errorf("zombies are left:\n%s", p.text())
		}
	})
}

func init() { roles["fault"], roles["bequeath"] = fault, bequeath }

// fault reads from an invalid address. Before that it calls DropSentFaults, which drops fault signals of other
// processes.
func fault([]string) int {
	process.DropSentFaults()
	return *(*int)(unsafe.Add(unsafe.Pointer(nil), 8))
}

func TestPID1_run(t *testing.T) {
	t.Run("statuses", func(t *testing.T) {
		inNamespace(t, true, "graceful", "run", "--", "sh", "-c", "exit 7").start().want("7")
		inNamespace(t, true, "graceful", "run", "--", "sh", "-c", "kill -9 $$").start().want("137")
		inNamespace(t, true, "graceful", "run", "--", "no-such-program").start().want("127")
	})
	// These are ILL, TRAP, BUS, FPE, SEGV, STKFLT and SYS. The kernel drops such a signal for a PID 1 without a
	// handler.
	t.Run("faults that are sent", func(t *testing.T) {
		inNamespace(t, true, "graceful", "run", "--", "sh", "-c",
			"for sig in 4 5 7 8 11 16 31; do kill -$sig 1 || exit 9; done; exit 3").start().want("3")
		inNamespace(t, true, "helper", "fault").start().want("SEGV") // a fault of PID 1 itself ends it
	})
	for _, sig := range []string{"TERM", "INT", "QUIT"} {
		t.Run("stop by "+sig, func(t *testing.T) {
			p := inNamespace(t, true, "graceful", "run", "--grace", "1h", "--on-exit", "echo cleaned; "+census, "--",
				"sh", "-c", "trap 'exit 3' "+sig+"; setsid helper ignore -- ready & while :; do wait; done").start()
			p.file("ready")
			if err := unix.Kill(gracefulPID(p), unix.SignalNum("SIG"+sig)); err != nil {
				t.Fatal(err)
			}
			p.want("3")
			if want := "cleaned\ncensus: 0\n"; !strings.HasSuffix(p.text(), want) {
				t.Errorf("it wrote:\n%s", p.text())
			}
		})
	}
}

// The jobs of a shell that then executes graceful do not belong to the tree. graceful does not end them, and their end
// does not disturb it.
func TestTree_excludesEarlierChildren(t *testing.T) {
	need(t, "linux")
	p := start(t, "sh", "-c", `sleep 1000 & echo $! >before
		exec graceful run --grace 1h -- sh -c 'setsid sleep 1000 & echo $! >during'`)
	before, during := p.pidIn("before"), p.pidIn("during")
	defer unix.Kill(before, unix.SIGKILL)
	p.want("0")
	if !alive(before) {
		t.Error("a process that is not of the tree was ended")
	}
	if alive(during) {
		t.Error("a process of the tree was left")
	}
}

// graceful names a survivor that it may not signal, gives up on it, and runs the cleanup commands. The same holds if
// /proc shows only the user's own processes.
func TestSurvivors_ofAnotherUser(t *testing.T) {
	need(t, "linux", "root", "setpriv")
	for name, c := range map[string]struct{ mount, want string }{
		"seen":    {"true", `(helper)"]`},
		"hidepid": {"mount -o remount,hidepid=2 /proc", `(hidden)"]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := inNamespace(t, false, "sh", "-c", c.mount+` && exec setpriv --reuid=54321 --regid=54321 --clear-groups "$@"`,
				"sh", plain, "run", "--grace", "100ms", "--on-exit", "echo >>cleaned 1", "--",
				"sh", "-c", "./helper become-root pid & until [ -e pid ]; do sleep 0.01; done; exit 3")
			suid := filepath.Join(p.dir, "helper")
			if err := copyFile(filepath.Join(binDir, "helper"), suid); err != nil {
				t.Fatal(err)
			}
			for name, mode := range map[string]os.FileMode{p.dir: 0o777, suid: 0o755 | os.ModeSetuid} {
				if err := os.Chmod(name, mode); err != nil {
					t.Fatal(err)
				}
			}
			p.start().want("3")
			p.wrote("cleaned", "1\n")
			if text := p.text(); strings.Count(text, "giving up on processes that SIGKILL does not end left=[") != 1 ||
				!strings.Contains(text, c.want) {
				t.Errorf("it wrote:\n%s", text)
			}
		})
	}
}

// With --contain group, graceful ends the process group, and does not signal processes that have left it.
func TestContainGroup_endsOnlyTheGroup(t *testing.T) {
	need(t, "linux", "setsid")
	p := start(t, "graceful", "run", "--contain", "group", "--grace", "100ms", "--on-exit", "echo cleaned", "--",
		"sh", "-c", `trap '' TERM; sleep 1000 & echo $! >inside; setsid sleep 1000 & echo $! >outside`)
	inside, outside := p.pidIn("inside"), p.pidIn("outside")
	defer unix.Kill(outside, unix.SIGKILL)
	p.want("0")
	if alive(inside) {
		t.Error("a member of the group was left")
	}
	if !strings.Contains(p.text(), "cleaned\n") {
		t.Errorf("it wrote:\n%s", p.text())
	}
}

// While its target is idle, graceful makes no system calls.
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

// The tree may use up all processes that graceful may have. So all threads of graceful exist before the target. The
// guard has no further threads.
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

// threadsOf counts the threads that a process has created, according to a trace. late contains those that were created
// after its first child.
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

// If a process starts while graceful stops survivors, graceful also stops that process as soon as it is an orphan.
// (The parent is not a shell, because the child of a shell loses a signal that comes before its execve(2), and gets no
// second signal.)
func TestSurvivors_orphanDuringTheStop(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	p := start(t, "graceful", "run", "--grace", "1h", "--", "sh", "-c",
		"helper bequeath ready & until [ -e ready ]; do sleep 0.01; done")
	p.want("0")
}

// bequeath writes a file when it is ready. At SIGTERM it starts a process and ends.
func bequeath(args []string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	write(args[0], os.Getpid())
	<-stop
	again(nil, "stay")
	return 0
}

// The time limit also applies to a cleanup command that has moved to another process group.
func TestOnExitTimeout_commandLeftItsGroup(t *testing.T) {
	need(t, "linux", "python3")
	t.Parallel()
	p := start(t, "graceful", "run", "--on-exit",
		`exec python3 -c 'import os, time; os.setpgid(0, os.getpgid(os.getppid()))
open("moved", "w").write("moved"); time.sleep(1000)'`,
		"--on-exit-timeout", "2s", "--", "true")
	p.file("moved")
	p.want("0")
	if !strings.Contains(p.text(), "timed out id=1 ") {
		t.Errorf("it wrote:\n%s", p.text())
	}
}
