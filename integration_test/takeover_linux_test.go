package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A takeover succeeds although the tree uses all processes that the limit allows.
func TestTakeover_withoutAFreeProcess(t *testing.T) {
	need(t, "root", "setpriv", "prlimit") // root becomes another user, because root has no limit
	t.Parallel()
	p := inNamespace(t, true, "helper", "reap", "prlimit", "--nproc=64", "setpriv", "--reuid=54328", "--clear-groups",
		plain, "run", "--grace", "100ms", "--on-exit", "echo cleaned 1", "--on-exit", `["/bin/echo", "cleaned", "2"]`, "--",
		"helper", "exhaust", "forked")
	if err := os.Chmod(p.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.until("output", func() bool { return strings.HasPrefix(p.text(), "exhausted") })
	graceful := gracefulPID(p)
	guard := guardOf(graceful)
	kill(t, graceful)
	p.until("end of the guard", func() bool { return !alive(guard) })
	p.want("137")
	if text := p.text(); !strings.HasSuffix(withoutLog(text), "cleaned 2\ncleaned 1\n") {
		t.Errorf("it wrote:\n%s", text)
	}
}

// A takeover succeeds although the tree uses almost all memory that the cgroup allows. The kernel may kill the target
// to get memory.
func TestTakeover_withoutFreeMemory(t *testing.T) {
	need(t, "root")
	t.Parallel()
	limit := cgroupWith(t, "memory", "memory.max", "memory.limit_in_bytes")
	if err := os.WriteFile(limit, []byte(strconv.Itoa(64<<20)), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(limit)
	p := start(t, "sh", "-c", `echo 0 >"$0"/cgroup.procs && exec "$@"`, dir, plain, "run", "--grace", "100ms", "--on-exit",
		"echo >cleaned $GRACEFUL_REASON", "--", "helper", "fill-memory", dir)
	p.waitForFile("filled")
	target, guard := p.pidIn("filled"), guardOf(p.cmd.Process.Pid)
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	p.until("end of the guard", func() bool { return !alive(guard) })
	// Accept both results, because the kernel may end the target before the new graceful has started.
	if got := p.waitForFile("cleaned"); got != "orphaned\n" && got != "signaled\n" {
		t.Errorf("the cleanup command wrote %q", got)
	}
	if alive(target) {
		t.Error("the target is left")
	}
}

func init() { roles["fill-memory"] = fillMemory }

// fillMemory is a role. It allocates memory until at most 1 MiB is left in the cgroup with the directory args[0]. Then
// it writes its pid to the file filled, and stays.
func fillMemory(args []string) int {
	number := func(names ...string) (n int) {
		for _, name := range names {
			if text, err := os.ReadFile(filepath.Join(args[0], name)); err == nil {
				n, _ = strconv.Atoi(strings.TrimSpace(string(text)))
			}
		}
		return n
	}
	const rest = 1 << 20
	limit := number("memory.max", "memory.limit_in_bytes")
	for number("memory.current", "memory.usage_in_bytes") < limit-rest {
		page, err := unix.Mmap(-1, 0, rest/4, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
		if err != nil {
			panic(err)
		}
		page[0] = 1
	}
	write("filled", os.Getpid())
	stay()
	return 0
}

// A takeover succeeds even if the executable of graceful was deleted or replaced.
func TestTakeover_executableDeletedOrReplaced(t *testing.T) {
	need(t, "linux")
	for name, change := range map[string]func(path string) error{
		"deleted": os.Remove,
		"replaced": func(path string) error {
			return writeProgram(path+".new", []byte("#!/bin/sh\necho other >other\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := filepath.Join(t.TempDir(), "graceful")
			if err := copyFile(plain, program); err != nil {
				t.Fatal(err)
			}
			p := start(t, program, "run", "--on-exit", "echo >cleaned $GRACEFUL_REASON", "--", "sh", "-c",
				"echo $$ >target; exec sleep 1000")
			target, guard := p.pidIn("target"), p.guard()
			if err := change(program); err != nil {
				t.Fatal(err)
			}
			if name == "replaced" {
				if err := os.Rename(program+".new", program); err != nil {
					t.Fatal(err)
				}
			}
			kill(t, p.cmd.Process.Pid)
			p.want("KILL")
			p.until("end of the guard", func() bool { return !alive(guard) })
			p.untilReaped(target)
			p.wantFile("cleaned", "orphaned\n")
			p.wantFile("other", "")
		})
	}
}

// If the target mounts another file system over /proc, or unmounts /proc, graceful still ends the whole tree, and no
// other process.
func TestTree_targetChangesProc(t *testing.T) {
	need(t, "root", "unshare", "setsid", "mount")
	for change, do := range map[string]string{
		"mounted over": "mount -t tmpfs none /proc; mkdir -p /proc/self/task /proc/1", "unmounted": "umount -l /proc",
	} {
		for _, end := range []string{"stopped", "graceful killed", "guard killed"} {
			t.Run(change+", "+end, func(t *testing.T) {
				t.Parallel()
				p := start(t, "unshare", "--mount", "--propagation", "private", "graceful", "run", "--grace", "200ms",
					"--on-exit", "echo >>cleaned $GRACEFUL_REASON", "--", "sh", "-c",
					"setsid helper ignore TERM -- daemon & until [ -e daemon ]; do sleep 0.01; done; "+do+
						"; echo $$ >target; exec sleep 1000")
				target, daemon, guard := p.pidIn("target"), p.pidIn("daemon"), p.guard()
				reason := "stopped"
				switch end {
				case "graceful killed":
					reason = "orphaned"
					kill(t, p.cmd.Process.Pid)
					p.want("KILL")
				case "guard killed":
					p.loseGuard()
					fallthrough
				default:
					p.signal(unix.SIGTERM)
					p.want("143")
				}
				p.until("end of the guard", func() bool { return !alive(guard) })
				p.untilReaped(target, daemon)
				p.wantFile("cleaned", reason+"\n")
			})
		}
	}
}

// The guard gets a signal, or is suspended, before or during a takeover. The run still ends, and cleanup runs once.
func TestTakeover_signalsToTheGuard(t *testing.T) {
	need(t, "linux")
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR1, unix.SIGSTOP} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, before: %t", unix.SignalName(sig), before), func(t *testing.T) {
				t.Parallel()
				p := start(t, "graceful", "run", "--grace", "100ms", "--on-exit", "echo >>cleaned $GRACEFUL_REASON", "--",
					"sh", "-c", "trap '' TERM INT HUP USR1; echo $$ >target; while :; do sleep 0.01; done")
				target, guard := p.pidIn("target"), p.guard()
				if before && sig == unix.SIGSTOP { // a running graceful would continue the guard too early
					p.signal(unix.SIGSTOP)
					p.until("suspension", func() bool { return processState(p.cmd.Process.Pid) == "T" })
				}
				if before {
					_ = unix.Kill(guard, sig)
				}
				if before && sig == unix.SIGSTOP {
					p.until("suspension of the guard", func() bool { return processState(guard) == "T" })
				}
				kill(t, p.cmd.Process.Pid)
				// Between the end of graceful and the takeover, no process could continue a guard that is suspended then.
				if !before && sig == unix.SIGSTOP {
					p.until("takeover", func() bool { return strings.Contains(p.text(), "taking over") })
				}
				if !before {
					_ = unix.Kill(guard, sig)
				}
				p.want("KILL")
				p.until("end of the guard", func() bool { return !alive(guard) })
				p.untilReaped(target)
				if got := p.waitForFile("cleaned"); got != "orphaned\n" && got != "stopped\n" {
					t.Errorf("the cleanup command wrote %q", got)
				}
			})
		}
	}
}

// The guard is killed while the new graceful that it has started is not yet initialised. The parent of the new graceful
// is then PID 1. The new graceful must not take PID 1 for the guard: all processes descend from PID 1, and the new
// graceful would end all of them.
func TestTakeover_guardKilledWhileTheSuccessorStarts(t *testing.T) {
	t.Parallel()
	for range 10 {
		p := inNamespace(t, true, "sh", "-c", `sleep 1000 & graceful run --guard on --grace 100ms `+
			`--on-exit 'echo 1 >>cleaned' -- sh -c 'trap "" TERM; echo $$ >target; while :; do sleep 0.01; done' & wait`).start()
		p.waitForFile("target")
		graceful := gracefulPID(p)
		guard := guardOf(graceful)
		var successor, bystander, target int
		for _, pid := range treeOf(t, p.cmd.Process.Pid) {
			if comm(pid) == "sleep" && len(childrenOf(pid)) == 0 && bystander == 0 {
				bystander = pid
			}
		}
		target = childrenOf(guard)[0]
		kill(t, graceful)
		for successor == 0 { // until the successor has executed graceful; then its Go runtime starts
			for _, pid := range childrenOf(guard) {
				cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				if strings.HasPrefix(string(cmdline), "graceful: taking over") {
					successor = pid
				}
			}
			if !alive(guard) {
				t.Fatal("the guard has ended by itself")
			}
		}
		kill(t, guard)
		p.until("end of graceful", func() bool { return !alive(successor) })
		if alive(target) || !alive(bystander) || !alive(p.cmd.Process.Pid) {
			t.Fatalf("alive: target %t, another process %t, PID 1 %t", alive(target), alive(bystander),
				alive(p.cmd.Process.Pid))
		}
		p.wantFile("cleaned", "1\n")
	}
}

// The guard is killed after a takeover while cleanup commands start. The commands that the guard has not started still
// run, and each command runs once.
func TestTakeover_guardKilledWhileCommandsStart(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	args := []string{"graceful", "run", "--grace", "1s", "--on-exit-order", "parallel"}
	for i := range 5 {
		command := fmt.Sprintf("echo >>%d; [ -e killed ] || { echo >killed; kill -9 $(cat guard); }", i)
		args = append(args, "--on-exit", command)
	}
	p := start(t, append(args, "--", "sh", "-c", "echo $PPID >guard; echo $$ >target; exec sleep 1000")...)
	target, guard := p.pidIn("target"), p.guard()
	kill(t, p.cmd.Process.Pid)
	p.want("KILL")
	p.until("end of the guard", func() bool { return !alive(guard) })
	p.untilReaped(target)
	for i := range 5 {
		if name := fmt.Sprint(i); p.waitForFile(name) != "\n" {
			t.Errorf("command %d did not run exactly once", i)
		}
	}
}
