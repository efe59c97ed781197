package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// In these tests a caller starts graceful and kills it. The caller expects that all processes of the run end.

// family is the beginning of a target's script. The target starts a child in the background, and a daemon that leaves
// the session. When both exist, it creates the file ready.
const family = `echo >started; helper daemon daemon; helper ignore -- job &
	until [ -e daemon ] && [ -e job ]; do sleep 0.01; done; echo >ready; `

// forever is the last part of a target's script. Without a signal, the script then never ends.
const forever = `while :; do wait; done`

// tidy is a cleanup command. It appends its id and the reason to the file cleaned. It also appends a line for each
// process of the family that still exists, even as a zombie.
const tidy = `echo $GRACEFUL_HOOK_ID $GRACEFUL_REASON >>cleaned
	for pid in $GRACEFUL_TARGET_PID $(cat daemon job 2>/dev/null); do
		! kill -0 $pid 2>/dev/null || echo $pid is left >>cleaned
	done`

// tidied is the text that two tidy commands write after one process of graceful was killed.
const tidied = "2 orphaned\n1 orphaned\n"

// anHour is a grace that never expires during a test. A run with this grace ends only if SIGTERM is enough.
const anHour = "1h"

// run returns a command line of graceful with a target and two cleanup commands.
func run(grace, target, onExit string) []string {
	return []string{"graceful", "run", "--grace", grace, "--on-exit", onExit, "--on-exit", onExit, "--",
		"sh", "-c", target}
}

// called prepares a command that runs a caller in a new PID namespace, below a PID 1 that reaps orphans. The command
// ends when all processes of the namespace have ended. Its exit status is that of the caller.
func called(t *testing.T, caller ...string) *proc {
	t.Helper()
	return inNamespace(t, true, append([]string{"helper", "reap"}, caller...)...)
}

// Each caller waits for the file ready, and then kills graceful. Some callers end at once. Others wait for graceful, as
// their library does.
func TestTakeover_callerKillsGraceful(t *testing.T) {
	const python = `
import os, subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdout=%s)
while not os.path.exists("ready"):
    time.sleep(0.01)
child.kill()
%s`
	const node = `
const { spawn } = require("child_process"), fs = require("fs")
const child = spawn(process.argv[1], process.argv.slice(2), { stdio: ["inherit", "%s", "inherit"] })
const timer = setInterval(() => {
	if (!fs.existsSync("ready")) return
	clearInterval(timer)
	child.kill("SIGKILL")
	%s
}, 10)`
	for name, caller := range map[string][]string{
		"Python": {"python3", "-c", fmt.Sprintf(python, "None", "os._exit(3)")},
		"Python, waiting": {"python3", "-c", fmt.Sprintf(python, "subprocess.PIPE",
			"child.communicate(); sys.exit(3 if child.returncode == -9 else 1)")},
		"Node": {"node", "-e", fmt.Sprintf(node, "inherit", `process.exit(3)`)},
		"Node, waiting": {"node", "-e", fmt.Sprintf(node, "pipe",
			`child.on("close", (code, signal) => process.exit(signal == "SIGKILL" ? 3 : 1))`)},
		// The shell kills the process group of its job. The guard is not in that group.
		"a shell with job control": {"bash", "-c", `set -m; "$@" & until [ -e ready ]; do sleep 0.01; done; kill -9 -$!
			wait $!; [ $? = 137 ] && exit 3`, "bash"},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, caller[0])
			t.Parallel()
			p := called(t, append(caller, run(anHour, family+forever, tidy)...)...).start()
			p.want("3")
			p.wrote("cleaned", tidied)
		})
	}
}

// Each caller kills graceful after a time limit, at any stage of the run: from before it begins until the file ready
// exists.
func TestTakeover_callerKillsGracefulAfterATimeLimit(t *testing.T) {
	for name, c := range map[string]struct {
		caller []string
		status string
	}{
		"timeout": {[]string{"timeout", "-s", "KILL"}, "137"},
		// This caller stops reading the output of graceful.
		"Python": {[]string{"python3", "-c", `
import subprocess, sys
try:
    subprocess.run(sys.argv[2:], timeout=float(sys.argv[1]), capture_output=True)
except subprocess.TimeoutExpired:
    sys.exit(3)`}, "3"},
	} {
		t.Run(name, func(t *testing.T) {
			need(t, c.caller[0])
			t.Parallel()
			for limit := time.Millisecond; limit < patience; limit *= 2 {
				args := append(slices.Clone(c.caller), fmt.Sprint(limit.Seconds()))
				p := called(t, append(args, run(anHour, family+forever, tidy)...)...).start()
				p.want(c.status)
				if !exists(p, "started") && !exists(p, "cleaned") {
					continue // there was no run yet
				}
				p.wrote("cleaned", tidied)
				if exists(p, "ready") {
					return
				}
			}
			t.Errorf("the target was not ready within %v", patience)
		})
	}
}

func exists(p *proc, name string) bool {
	_, err := os.Stat(filepath.Join(p.dir, name))
	return err == nil
}

// below lists a process of the test and its descendants. At the end of the test it kills those that are still alive.
func below(t *testing.T, pid int) []int {
	all := append([]int{pid}, descendantsOf(pid)...)
	t.Cleanup(func() {
		for _, pid := range all[1:] {
			if t.Failed() && alive(pid) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	})
	return all
}

func (p *proc) untilGone(pids []int) {
	p.t.Helper()
	p.until("end of all processes", func() bool { return !slices.ContainsFunc(pids, alive) })
}

func TestTakeover_callerCancelsItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := command(t, run(anHour, "echo out; "+family+forever, tidy+"; echo $GRACEFUL_HOOK_ID")...)
	var out bytes.Buffer // with a buffer, Wait waits until no process can write to it any more
	cmd := exec.CommandContext(ctx, p.cmd.Args[0], p.cmd.Args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = p.dir, &out, p.output, patience
	p.cmd = cmd
	p.start()
	p.file("ready")
	all := below(t, cmd.Process.Pid)
	cancel()
	p.want("KILL")
	p.wrote("cleaned", tidied)
	if out.String() != "out\n2\n1\n" {
		t.Errorf("the output was:\n%s", &out)
	}
	p.untilGone(all)
}

// The reader of graceful's output ends, like head -n 1, or does not read. Then graceful is killed.
func TestTakeover_outputWithoutAReader(t *testing.T) {
	for _, order := range []string{"goes away first", "kills first", "does not read"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			// The loop in the background writes until it cannot write any more. The shell of the script must not write
			// then, because it would hang without a reader.
			target := `echo first; (while :; do echo more; done) & ` + family + forever
			p := command(t, slices.Insert(run(anHour, target, tidy), 2, "-v")...)
			p.cmd.Stdout, p.cmd.Stderr = w, w
			p.start()
			w.Close()
			p.file("ready")
			if err := skipLine(r); err != nil {
				t.Error(err)
			}
			all := below(t, p.cmd.Process.Pid)
			if order == "goes away first" {
				r.Close()
			}
			p.signal(unix.SIGKILL)
			if order == "kills first" {
				r.Close()
			}
			p.want("KILL")
			p.untilGone(all) // the guard ends last
			p.wrote("cleaned", tidied)
		})
	}
}

// skipLine reads one line, and no byte beyond it.
func skipLine(r io.Reader) error {
	for b := make([]byte, 1); b[0] != '\n'; {
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
	}
	return nil
}

// startJob starts graceful as a step of GitHub Actions. There the runner signals only the process that it has started.
func startJob(t *testing.T, step []string) *ciStep {
	t.Helper()
	p := called(t, slices.Concat([]string{"env"}, ciRunners["GitHub"].cookies, step)...).start()
	p.file("ready")
	pid := gracefulPID(p)
	return &ciStep{proc: p, graceful: pid, leader: pid, scale: 10}
}

// outlast sends all signals of GitHub's runner to a step that ignores the first ones. The last signal is SIGKILL.
func (s *ciStep) outlast(arrived func(unix.Signal)) {
	for _, step := range []struct {
		sig      unix.Signal
		patience time.Duration
	}{{unix.SIGINT, 7500 * time.Millisecond}, {unix.SIGTERM, 2500 * time.Millisecond}} {
		s.kill(s.leader, step.sig)
		arrived(step.sig)
		time.Sleep(s.scaled(step.patience))
	}
	s.kill(s.leader, unix.SIGKILL)
}

// The target ignores the stop signals, and the grace is longer than the runner waits. While the cleanup commands run,
// the runner kills each process that has one of its cookies in its environment.
func TestCI_cancelledJobIgnoresTheStop(t *testing.T) {
	t.Parallel()
	j := startJob(t, run(anHour, `trap "" INT TERM; env >environ; `+family+`exec helper count got`, `
		echo $GRACEFUL_HOOK_ID $GRACEFUL_REASON $GRACEFUL_STOP_SIGNAL >>cleaned
		until [ -e swept.$GRACEFUL_HOOK_ID ]; do sleep 0.01; done
		echo $GRACEFUL_HOOK_ID is done >>cleaned`))
	cookies := ciRunners["GitHub"].hunted
	if !strings.Contains(j.file("environ"), cookies[0]+"\n") {
		t.Error("the target has lost the cookie")
	}
	j.file("got.pid")
	guard := guardOf(j.leader)
	j.outlast(func(sig unix.Signal) {
		j.until("signal to the target", func() bool { return counts(j.proc, "got")[sig] == 1 })
	})
	j.until("end of the guard", func() bool {
		cleaned, _ := os.ReadFile(filepath.Join(j.dir, "cleaned"))
		j.hunt(cookies)
		for line := range strings.Lines(string(cleaned)) { // for the commands that have begun
			if err := os.WriteFile(filepath.Join(j.dir, "swept."+line[:1]), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return !alive(guard)
	})
	j.want("137")
	j.wrote("cleaned", "2 stopped INT\n2 is done\n1 stopped INT\n1 is done\n")
}

// A child of the target exceeds a memory limit. The kernel then kills the target, the guard or graceful.
func TestRun_outOfMemoryKiller(t *testing.T) {
	for name, c := range map[string]struct{ victim, target, status, cleaned string }{
		"kills the target": {"parent", forever, "137", "2 signaled\n1 signaled\n"},
		"kills the guard":  {"grandparent", "while kill -0 $PPID; do sleep 0.01; done; exit 7", "7", "2 exited\n1 exited\n"},
		"kills graceful":   {"great-grandparent", forever, "137", tidied},
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
			step := run(anHour, family+"helper eat "+c.victim+" & "+c.target, tidy)
			args := append([]string{"sh", "-c", `echo 0 >"$0"/cgroup.procs && exec "$@"`, group, "helper", "reap"}, step...)
			for tries := 1; ; tries++ {
				before := outOfMemoryKills(t, group)
				p := inNamespace(t, true, args...).start()
				status := p.wait()
				cleaned, _ := os.ReadFile(filepath.Join(p.dir, "cleaned"))
				if status == c.status && string(cleaned) == c.cleaned {
					return
				}
				// The kernel may kill further processes before the memory of the victim is free. Then the test tries
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
