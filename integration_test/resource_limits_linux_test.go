package integration_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// The tree uses up all processes that it and graceful may have. graceful keeps the exit status, ends the tree, and runs
// the cleanup commands.
func TestTree_usesUpAllProcesses(t *testing.T) {
	check := func(t *testing.T, p *proc) {
		t.Helper()
		if n, _ := strconv.Atoi(strings.TrimSpace(p.file("forked"))); n < 10 {
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
			need(t, "root", "setpriv", "prlimit") // root has no limit
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
			// Write 0, which moves the writing process itself. In the namespace its pid is another one.
			p := inNamespace(t, false, append([]string{"sh", "-c", `echo 0 >"$0"/cgroup.procs && exec "$@"`,
				filepath.Dir(limit)}, run...)...)
			p.start()
			check(t, p)
		})
	}
}

// cgroupWith creates a cgroup (v2 or v1) with a controller. It returns the path of the first of these limit files that
// exists in the cgroup.
func cgroupWith(t *testing.T, controller string, limits ...string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		controllers, _ := os.ReadFile(filepath.Join(f[1], "cgroup.controllers"))
		if f[2] != "cgroup2" && f[2] != "cgroup" || f[2] == "cgroup" && !strings.Contains(f[3], controller) ||
			f[2] == "cgroup2" && !strings.Contains(string(controllers), controller) {
			continue
		}
		if f[2] == "cgroup2" {
			_ = os.WriteFile(filepath.Join(f[1], "cgroup.subtree_control"), []byte("+"+controller), 0o644)
		}
		dir, err := os.MkdirTemp(f[1], "graceful-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { // processes that a failed test has killed may leave it late
			for deadline := time.Now().Add(patience); os.Remove(dir) != nil && time.Now().Before(deadline); {
				time.Sleep(2 * time.Millisecond)
			}
		})
		for _, limit := range limits {
			if _, err := os.Stat(filepath.Join(dir, limit)); err == nil {
				return filepath.Join(dir, limit)
			}
		}
	}
	need(t, controller+" controller")
	return ""
}

// A limit on file sizes is lowered while graceful runs. graceful can then write neither the ledger nor messages. The
// kernel sends SIGXFSZ to the writing process, and graceful does not forward it.
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
			p.wrote("cleaned", "1\n")
			if text := p.text(); len(text) != 100 || !strings.HasPrefix(text, "graceful: writing the ledger: appending to ") {
				t.Errorf("it wrote:\n%s", text)
			}
		})
	}
}

// graceful runs in the background of a terminal with TOSTOP, which suspends processes that write to it. The messages,
// the output of cleanup commands, and the report all arrive, even after the guard was killed.
func TestTerminal_backgroundWithTostop(t *testing.T) {
	need(t, "stty")
	for name, killed := range map[string]bool{"none killed": false, "guard killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backgroundTerminal(t, killed)
		})
	}
}

func backgroundTerminal(t *testing.T, killed bool) {
	master, slave, err := pty.Open()
	if err != nil {
		need(t, "pseudo-terminal")
	}
	defer master.Close()
	p := command(t, "sh", "-c", `set -m; stty tostop
		sh -c 'echo bare' & wait $!; echo $? >bare; kill -KILL %1
		graceful run -v --report /dev/tty --on-exit 'echo written to the terminal; echo >>cleaned 1' \
			--on-exit 'echo $PPID >cleaning; until [ -e told ]; do sleep 0.01; done' -- sh -c 'until [ -e told ] || [ "$0" ]
			do sleep 0.01; done; exit 3' "$0" &
		wait $!; echo $? >status`, map[bool]string{true: "at once"}[killed])
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	p.start()
	slave.Close()
	shown := make(chan bool)
	go func() { // a process must not wait for a reader
		defer close(shown)
		_, _ = io.Copy(p.output, master) // it ends when the last process has closed the terminal
	}()
	p.until("message while the target runs", func() bool { return strings.Contains(p.text(), "running was=starting") })
	if killed {
		p.killAndWait(p.pidIn("cleaning"))
	}
	if err := os.WriteFile(filepath.Join(p.dir, "told"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.want("0")
	<-shown
	p.wrote("bare", "150\n") // suspended by SIGTTOU: TOSTOP works in this terminal
	p.wrote("status", "3\n")
	p.wrote("cleaned", "1\n")
	if got := p.text(); !strings.Contains(got, "done was=cleaning") || !strings.Contains(got, "written to the terminal") ||
		!strings.Contains(got, `"report": 1`) || strings.Contains(got, "TTOU") {
		t.Errorf("the terminal shows:\n%s", got)
	}
}
