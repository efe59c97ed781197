package integration_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// The target's terminal begins with the modes of graceful's terminal. At the end, graceful's terminal has its original
// modes, whatever the target has done to its own.
func TestPTY_restoresTheModesOfTheTerminal(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		for _, c := range []struct{ target, status string }{
			{"sleep 0.1; exit 3", "3"}, {"stty raw -echo; sleep 0.1; kill -KILL $$", "137"},
			{"stty -opost; exec helper die 11", "139"},
		} {
			x := inTerminal(t, 24, 80, slices.Concat([]string{"sh", "-c",
				`stty -echo -ixon; stty -g >before; "$@"; echo $? >status; stty -g >after`, "sh"},
				run("-v", "--on-exit", "stty -g >cleaning", "--", "sh", "-c", "stty -g <&0 >inside; "+c.target))...)
			x.want("0")
			x.wantFile("status", c.status+"\n")
			before := x.waitForFile("before")
			x.wantFile("after", before)
			x.wantFile("cleaning", "") // stty(1) fails, because its standard input is not a terminal
			if inside := x.waitForFile("inside"); inside != before {
				t.Errorf("the target's terminal had the modes %s, graceful's %s", inside, before)
			}
			// Wait for all output: stty(1) writes its message in parts, and the test copies the screen in the background.
			x.until("end of the last line", func() bool { return strings.HasSuffix(x.text(), "\n") })
			for line := range strings.Lines(x.text()) {
				if !strings.HasSuffix(line, "\r\n") {
					t.Errorf("%s: graceful's terminal got the line %q", c.target, line)
				}
			}
		}
	})
}

// Keys such as Ctrl-C send their signals to the target, once, and not to graceful.
func TestPTY_keysThatSendSignals(t *testing.T) {
	need(t, "bash")
	t.Parallel()
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		x := inTerminal(t, 24, 80, run("-v", "--", "helper", "count", "seen")...)
		x.pidIn("seen.pid")
		x.becomesRaw()
		x.press("\x03")
		x.until("SIGINT", func() bool { return counts(x.proc, "seen")[unix.SIGINT] > 0 })
		x.press("\x1c")
		x.until("SIGQUIT", func() bool { return counts(x.proc, "seen")[unix.SIGQUIT] > 0 })
		if got := counts(x.proc, "seen"); got[unix.SIGINT] != 1 || got[unix.SIGQUIT] != 1 ||
			strings.Contains(x.text(), "received") {
			t.Errorf("the target got %v; the terminal shows:\n%s", got, x.text())
		}
		x.signal(unix.SIGTERM)
		x.until("SIGTERM", func() bool { return counts(x.proc, "seen")[unix.SIGTERM] > 0 })
		x.killAndWait(x.pidIn("seen.pid"))
	})
	// A shell in the target's terminal can control its jobs.
	x := inTerminal(t, 24, 80, ptyRun("--", "bash", "--norc", "--noprofile", "-i")...)
	x.becomesRaw()
	x.press(prompt)
	x.shows("good> ")
	x.press("sleep 1000\n")
	x.shows("sleep 1000\r\n")
	job := 0
	x.until("job", func() bool {
		pids := treeOf(t, x.cmd.Process.Pid)
		job = pids[len(pids)-1]
		return comm(job) == "sleep"
	})
	x.press("\x1a")
	x.shows("Stopped")
	x.press("fg\n")
	x.until("continued job", func() bool { return processState(job) != "T" })
	x.press("\x03")
	x.press("echo status $?\n")
	x.shows("status 130")
	x.press("exit 5\n")
	x.want("5")
}

// prompt is the input for bash that sets the prompt "good> ". The echo of the input does not contain that text.
const prompt = "PS1='go''od> '\n"

// SIGTSTP from kill(1) suspends graceful and the target, as the job control of a shell does. While both are suspended,
// graceful's terminal has its original modes. SIGCONT continues both.
func TestPTY_suspendedByKill(t *testing.T) {
	need(t, "stty")
	t.Parallel()
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		// graceful is in the process group of the shell, a session leader. That group is orphaned, and in an orphaned
		// group SIGTSTP suspends no process (see runner/terminal/suspend.go). So graceful suspends the target and
		// itself by SIGSTOP. The target forks no process, because a forking target may be suspended late.
		x := inTerminal(t, 24, 80, slices.Concat([]string{"sh", "-c", `stty -g >before; "$@"; echo $? >status`, "sh"},
			run("--on-exit", "echo >>cleaned 1", "--", "helper", "count", "seen"))...)
		target := x.pidIn("seen.pid")
		leader := treeOf(t, x.cmd.Process.Pid)[1]
		x.becomesRaw()
		for range 2 {
			if err := unix.Kill(leader, unix.SIGTSTP); err != nil {
				t.Fatal(err)
			}
			x.until(fmt.Sprint("suspension of both ", leader, target),
				func() bool { return processState(target) == "T" && processState(leader) == "T" })
			if got, want := x.modes(), strings.TrimSpace(x.waitForFile("before")); got != want {
				t.Errorf("while graceful is suspended the modes are %s, want %s", got, want)
			}
			x.resize(11, 22)
			if err := unix.Kill(leader, unix.SIGCONT); err != nil {
				t.Fatal(err)
			}
			x.becomesRaw()
			x.until("continuation of both", func() bool { return processState(target) != "T" && processState(leader) != "T" })
			x.until("SIGWINCH", func() bool { return counts(x.proc, "seen")[unix.SIGWINCH] == 1 })
			out, err := exec.Command("stty", "-F", fmt.Sprintf("/proc/%d/fd/0", target), "size").Output()
			if string(out) != "11 22\n" {
				t.Errorf("the size is %s, %v", out, err)
			}
		}
		x.killAndWait(target)
		x.want("0")
		x.wantFile("status", "137\n")
		x.wantFile("cleaned", "1\n")
	})
}

// A background job with --pty does not read the terminal until the job is in the foreground. The job can be suspended
// in the background, continued there, and then brought to the foreground.
func TestPTY_inTheBackground(t *testing.T) {
	need(t, "bash", "stty")
	t.Parallel()
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		x := inTerminal(t, 24, 80, slices.Concat([]string{"bash", "--norc", "--noprofile", "-i", "-s"},
			run("--on-exit", "echo >>cleaned 1", "--", "sh", "-c",
				// The target waits without starting a child. A shell cannot be suspended while it starts a child
				// (vfork(2)).
				`mkfifo on; exec 3<>on; stty -echo; echo from the background; read x <&3; echo went on; read a; echo got $a
					read b; exit 3`))...)
		x.press("stty tostop; set -b; " + prompt)
		x.shows("good> ")
		x.press(`"$@" &` + "\n")
		x.shows("from the background\r")
		x.press("echo for the $((1+1))nd shell; jobs\n")
		x.shows("for the 2nd shell")
		x.shows("Running")
		if strings.Contains(x.text(), "Stopped") || strings.Contains(x.text(), "got for") {
			t.Errorf("the terminal shows:\n%s", x.text())
		}
		x.press("kill -TSTP %1\n")
		x.shows("Stopped")
		x.press("echo >on; bg; echo bg is $?\n")
		x.shows("bg is 0")
		x.shows("went on\r")
		x.press("fg\n")
		x.becomesRaw()
		x.press("keys\n")
		x.shows("got keys\r\n")
		x.press("\n")
		x.until("shell in the foreground", func() bool { return !x.isRaw() }) // until then keys go to the target
		x.press("echo status $?; exit 0\n")
		x.shows("status 3")
		x.want("0")
		x.wantFile("cleaned", "1\n")
	})
}

// If graceful's terminal is closed, the target gets SIGHUP, and the cleanup command runs.
func TestPTY_hangUp(t *testing.T) {
	t.Parallel()
	forEachLevelWithPTY(t, func(t *testing.T, run func(args ...string) []string) {
		master, slave, err := pty.Open()
		if err != nil {
			need(t, "pseudo-terminal")
		}
		p := command(t, run("--on-exit", "echo >>cleaned 1", "--", "sh", "-c",
			"echo 1 >ready; while :; do echo; sleep 0.01; done")...)
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
		p.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
		p.start()
		slave.Close()
		p.waitForFile("ready")
		master.Close()
		p.want("129")
		p.wantFile("cleaned", "1\n")
	})
}
