package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startFamily is the beginning of a target's script. The target first creates the file started. Then it starts a child
// in the background, and a daemon that leaves the session. The file job contains the pid of the child, and the file
// daemon that of the daemon. When both processes exist, the target creates the file ready.
const startFamily = `echo >started; helper daemon daemon; helper ignore -- job &
	until [ -e daemon ] && [ -e job ]; do sleep 0.01; done; echo >ready; `

// waitForever is the last part of a target's script. Without a signal, the script then never ends.
const waitForever = `while :; do wait; done`

// cleanAndCount is a cleanup command. It appends its id and the reason to the file cleaned. It also appends a line for
// the target and for each process of startFamily that still exists, even as a zombie.
const cleanAndCount = `echo $GRACEFUL_HOOK_ID $GRACEFUL_REASON >>cleaned
	for pid in $GRACEFUL_TARGET_PID $(cat daemon job 2>/dev/null); do
		! kill -0 $pid 2>/dev/null || echo $pid is left >>cleaned
	done`

// cleanedAfterKill is the content of the file cleaned after graceful was killed, if two cleanAndCount commands have run
// and no process was left.
const cleanedAfterKill = "2 orphaned\n1 orphaned\n"

// anHour is a grace that never expires during a test. A run with this grace ends only if each process of the tree ends
// at SIGTERM, or is killed by the test.
const anHour = "1h"

// run returns a command line of graceful with a target, which is a shell script, and twice the same cleanup command.
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

// A caller starts graceful, waits for the file ready, and then kills graceful. All processes of the run end, and each
// cleanup command runs once. Some callers end at once. Others wait for graceful, as their library does.
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
			p := called(t, append(caller, run(anHour, startFamily+waitForever, cleanAndCount)...)...).start()
			p.want("3")
			p.wantFile("cleaned", cleanedAfterKill)
		})
	}
}

// A caller kills graceful after a time limit. The test doubles the limit from 1 ms until the file ready exists, so that
// graceful is killed before the run begins and at several moments of the start. If the run has begun, all of its
// processes end, and each cleanup command runs once.
func TestTakeover_callerKillsGracefulAfterATimeLimit(t *testing.T) {
	for name, c := range map[string]struct {
		caller []string
		status string
	}{
		"timeout": {[]string{"timeout", "-s", "KILL"}, "137"},
		// After the time limit, this caller no longer reads the output of graceful.
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
				p := called(t, append(args, run(anHour, startFamily+waitForever, cleanAndCount)...)...).start()
				p.want(c.status)
				if !exists(p, "started") && !exists(p, "cleaned") {
					continue // there was no run yet
				}
				p.wantFile("cleaned", cleanedAfterKill)
				if exists(p, "ready") {
					return
				}
			}
			t.Errorf("the target was not ready within %v", patience)
		})
	}
}

// If a Go program cancels the context of the command that runs graceful, os/exec kills graceful. Wait returns after the
// cleanup commands have ended, and the output of the target and the cleanup commands is complete.
func TestTakeover_callerCancelsItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := command(t, run(anHour, "echo out; "+startFamily+waitForever, cleanAndCount+"; echo $GRACEFUL_HOOK_ID")...)
	var out bytes.Buffer // os/exec fills the buffer from a pipe: Wait waits until no process can write to the pipe
	cmd := exec.CommandContext(ctx, p.cmd.Args[0], p.cmd.Args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = p.dir, &out, p.output, patience
	p.cmd = cmd
	p.start()
	p.waitForFile("ready")
	all := treeOf(t, cmd.Process.Pid)
	cancel()
	p.want("KILL")
	p.wantFile("cleaned", cleanedAfterKill)
	if out.String() != "out\n2\n1\n" {
		t.Errorf("the output was:\n%s", &out)
	}
	p.untilEnded(all)
}

// The reader of graceful's output reads a line. Then it goes away before or after graceful is killed, or stays and does
// not read. All processes of the run end, and each cleanup command runs once.
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
			target := `echo first; (while :; do echo more; done) & ` + startFamily + waitForever
			p := command(t, slices.Insert(run(anHour, target, cleanAndCount), 2, "-v")...)
			p.cmd.Stdout, p.cmd.Stderr = w, w
			p.start()
			w.Close()
			p.waitForFile("ready")
			if err := skipLine(r); err != nil {
				t.Error(err)
			}
			all := treeOf(t, p.cmd.Process.Pid)
			if order == "goes away first" {
				r.Close()
			}
			p.signal(unix.SIGKILL)
			if order == "kills first" {
				r.Close()
			}
			p.want("KILL")
			p.untilEnded(all) // the guard ends last
			p.wantFile("cleaned", cleanedAfterKill)
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
