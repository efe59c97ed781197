package integration_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// limitedUser is the beginning of a command line that runs a program as user 54331. The tests need another user,
// because limits of processes do not apply to root.
var limitedUser = []string{"setpriv", "--reuid=54331", "--clear-groups"}

// limited prepares a program that runs as the user of limitedUser, in a directory of that user.
func limited(t *testing.T, args ...string) *proc {
	t.Helper()
	need(t, "root", "setpriv", "prlimit")
	p := command(t, append(limitedUser, args...)...)
	if err := errors.Join(os.Chown(p.dir, 54331, -1), os.Chmod(filepath.Dir(p.dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	return p
}

// limitProcesses forbids graceful and its guard to start processes if on is true. Otherwise it permits that again.
// graceful is the pid of graceful.
func limitProcesses(t *testing.T, graceful int, on bool) {
	t.Helper()
	limit := map[bool]string{true: "--nproc=1:", false: "--nproc=10000:"}[on]
	for _, pid := range []int{graceful, guardOf(graceful)} {
		start(t, append(limitedUser, "prlimit", "--pid", strconv.Itoa(pid), limit)...).want("0")
	}
}

// registerAndWait is the script of a target. The target registers a command for the end of a process, and a second
// command. Then it writes the address of the socket to the file socket, and the pid of the process to the file awaited.
const registerAndWait = `sleep 1000 & graceful defer --timeout 300ms --when-exits $! --shell -- "echo waited >>log" >id
	graceful defer -- sh -c "echo other >>log" >id
	echo $GRACEFUL_SOCKET >socket; echo $! >awaited; exec sleep 1000`

// delayedRun starts a run of registerAndWait, and ends the awaited process while graceful cannot start processes. It
// returns when graceful has given up the start because the time limit of the command is over.
func delayedRun(t *testing.T, flags ...string) *proc {
	t.Helper()
	p := limited(t, slices.Concat([]string{plain, "run", "--state-dir", "state", "--name", "n", "--report", "report"},
		flags, []string{"--", "sh", "-c", registerAndWait})...)
	p.start()
	awaited := p.pidIn("awaited")
	limitProcesses(t, p.cmd.Process.Pid, true)
	kill(t, awaited)
	p.until("warning", func() bool { return strings.Contains(p.text(), "its time limit is over") })
	if text := p.text(); !strings.Contains(text, "its time limit is over (it is tried again when cleanup begins)\n") {
		t.Errorf("it wrote:\n%s", text)
	}
	return p
}

// recoverLimited runs graceful recover as the user of limitedUser in the directory of a program, and returns the output
// of recover. The test fails unless status is the exit status of recover and no file is left in the state directory.
func (p *proc) recoverLimited(status string) string {
	p.t.Helper()
	r := command(p.t, append(limitedUser, plain, "recover", "--state-dir", "state")...)
	r.cmd.Dir = p.dir
	r.start().want(status)
	if left, _ := os.ReadDir(filepath.Join(p.dir, "state")); len(left) > 0 {
		p.t.Errorf("left in the state directory: %v", left)
	}
	return r.text()
}

// If a command for the end of a process cannot be started for lack of processes, graceful tries again when cleanup
// begins. That also holds after processes of graceful were killed.
func TestDefer_whenExitsIsTriedAgain(t *testing.T) {
	all := newReports(t)
	for _, guard := range []string{"on", "off"} {
		for _, killed := range []string{"none", "graceful", "guard", "both"} {
			if guard == "off" && (killed == "graceful" || killed == "guard") {
				continue
			}
			t.Run("guard "+guard+", killed: "+killed, func(t *testing.T) {
				t.Parallel()
				p := delayedRun(t, "--guard", guard)
				leader, root := p.cmd.Process.Pid, guardOf(p.cmd.Process.Pid)
				limitProcesses(t, leader, false)
				switch killed {
				case "none":
					list := command(t, append(limitedUser, plain, "defer", "--list")...)
					list.cmd.Env = append(os.Environ(), "GRACEFUL_SOCKET="+strings.TrimSpace(p.waitForFile("socket")))
					list.start().want("0")
					if text := list.text(); !strings.HasPrefix(text, "1  pending  -  echo waited >>log\n") {
						t.Errorf("the list is\n%s", text)
					}
					p.signal(unix.SIGTERM)
					p.want("143")
				case "graceful":
					kill(t, leader)
					p.want("KILL")
				case "guard":
					p.loseGuard()
					p.signal(unix.SIGTERM)
					p.want("143")
				case "both":
					killBoth(t, leader)
					p.want("KILL")
					p.recoverLimited("0")
				}
				p.until("end of the guard", func() bool { return !alive(root) })
				p.wantFile("log", "other\nwaited\n")
				if r := all.read(t, filepath.Join(p.dir, "report")); outcomes(r) != "succeeded succeeded" {
					t.Errorf("outcomes: %s", outcomes(r))
				}
				if text := p.recoverLimited("0"); text != "" {
					t.Errorf("recover wrote:\n%s", text)
				}
			})
		}
	}
}

// If the second attempt to start a command for the end of a process also fails, recover starts the command.
func TestDefer_whenExitsIsTriedOnceMore(t *testing.T) {
	for _, guard := range []string{"on", "off"} {
		t.Run("guard "+guard, func(t *testing.T) {
			t.Parallel()
			p := delayedRun(t, "--guard", guard, "--on-exit-timeout", "300ms")
			p.signal(unix.SIGTERM)
			p.want("143")
			text := p.text()
			if strings.Count(text, "id=1 command=\"echo waited >>log\" limit=300ms: its time limit is over") != 2 ||
				!strings.Contains(text, "graceful recover starts it") {
				t.Errorf("it wrote:\n%s", text)
			}
			p.wantFile("log", "")
			p.recoverLimited("0")
			p.wantFile("log", "other\nwaited\n")
		})
	}
}

// A command whose program is missing or may not be executed fails. graceful does not try to start it again.
func TestDefer_whenExitsCommandIsMissing(t *testing.T) {
	for _, program := range []string{"./missing", "./work"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			p := command(t, "graceful", "run", "--", "sh", "-c", `echo : >work
				sleep 1000 & graceful defer --when-exits $! -- `+program+` >id; echo $! >awaited; exec sleep 1000`)
			p.start()
			kill(t, p.pidIn("awaited"))
			p.until("warning", func() bool { return strings.Contains(p.text(), "not started") })
			p.signal(unix.SIGTERM)
			p.want("143")
			if text := p.text(); strings.Count(text, "not started") != 1 || strings.Contains(text, "tried again") {
				t.Errorf("it wrote:\n%s", text)
			}
		})
	}
}

// If graceful is PID 1 and cannot start a command, a recover outside of the PID namespace starts the command.
func TestRecover_startsACommandOfPID1(t *testing.T) {
	need(t, "root", "setpriv", "prlimit", "pidns")
	for _, guard := range []string{"auto", "on"} {
		t.Run("guard "+guard, func(t *testing.T) {
			t.Parallel()
			p := inNamespace(t, true, slices.Concat(limitedUser, []string{
				plain, "run", "--guard", guard, "--state-dir", "state", "--name", "n", "--on-exit-timeout", "300ms",
				"--on-exit", "echo exit >>log", "--", "sh", "-c", "echo >ready; exec sleep 1000"})...)
			if err := errors.Join(os.Chown(p.dir, 54331, -1), os.Chmod(filepath.Dir(p.dir), 0o755)); err != nil {
				t.Fatal(err)
			}
			p.start()
			p.waitForFile("ready")
			leader := gracefulPID(p)
			t.Cleanup(func() {
				// The end of unshare does not end graceful: setpriv changed the user, which cleared the parent-death signal.
				if t.Failed() {
					kill(t, leader)
				}
			})
			limitProcesses(t, leader, true)
			if err := unix.Kill(leader, unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			p.want("143")
			p.wantFile("log", "")
			p.recoverLimited("0")
			p.wantFile("log", "exit\n")
		})
	}
}

// If recover cannot start a command for lack of processes, another recover starts it.
func TestRecover_startsACommandOfAnotherRecover(t *testing.T) {
	p := limited(t, plain, "run", "--state-dir", "state", "--name", "n", "--on-exit-timeout", "300ms",
		"--on-exit", "echo exit >>log", "--on-exit", "echo >begun; until [ -e go ]; do sleep 0.01; done", "--",
		"sh", "-c", "echo >ready; exec sleep 1000")
	p.start()
	p.waitForFile("ready")
	killBoth(t, p.cmd.Process.Pid)
	p.want("KILL")
	p.until("release of the lock", func() bool { return unlocked(t, filepath.Join(p.dir, "state")) })
	r := command(t, append(limitedUser, plain, "recover", "--state-dir", "state")...)
	r.cmd.Dir = p.dir
	r.start()
	p.waitForFile("begun")
	limitProcesses(t, r.cmd.Process.Pid, true)
	p.touch("go")
	r.want("1")
	p.wantFile("log", "")
	p.recoverLimited("0")
	p.wantFile("log", "exit\n")
}
