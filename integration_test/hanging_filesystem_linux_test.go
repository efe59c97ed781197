package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// If the file system of a program does not answer, graceful still handles signals, timers and other commands.
func TestStart_hangingFileSystem(t *testing.T) {
	need(t, "linux", "root", "fuse")
	for name, c := range map[string]struct {
		args   string
		signal unix.Signal // sent to graceful once the target's process exists; 0: none
		status string
		reason string // GRACEFUL_REASON of the cleanup commands
		says   string
	}{
		"a signal for the target": {"--grace 200ms %s -- hung/program", unix.SIGTERM, "143", "stopped", ""},
		"a name in PATH":          {"--grace 200ms %s -- program", unix.SIGTERM, "143", "stopped", ""},
		"a time limit":            {"--timeout 300ms --grace 200ms %s -- hung/program", 0, "124", "timed-out", ""},
		"cleanup commands": {
			`--on-exit-timeout 300ms %s --on-exit '["hung/program"]' --on-exit '["hung/other"]' -- /bin/true`,
			0, "0", "exited", "timed out"},
		"cleanup commands in parallel": {`--on-exit-order parallel --on-exit-timeout 1s %s --on-exit '["hung/program"]' \
			--on-exit '["hung/other"]' -- /bin/true`, 0, "0", "exited", "timed out"},
	} {
		for _, guard := range []string{"on", "off"} {
			t.Run(name+", guard "+guard, func(t *testing.T) {
				t.Parallel()
				p := startHung(t, "--guard "+guard+" "+fmt.Sprintf(c.args, "--on-exit 'echo cleaned $GRACEFUL_REASON >>done'"))
				if c.signal != 0 {
					p.until("start", func() bool { return strings.Contains(p.text(), "target started") })
					_ = unix.Kill(p.pidIn("pid"), c.signal)
				}
				p.want(c.status)
				p.wantFile("done", "cleaned "+c.reason+"\n")
				if !strings.Contains(p.text(), c.says) {
					t.Errorf("graceful wrote no %q:\n%s", c.says, p.text())
				}
			})
		}
	}
}

// If a file system fails the start of a program after graceful has logged that start, the target or the command counts
// as not started.
func TestStart_fileSystemFailsLate(t *testing.T) {
	need(t, "linux", "root", "fuse")
	for _, guard := range []string{"on", "off"} {
		for name, c := range map[string]struct{ command, status, says, reason string }{
			"the target":        {"hung/program", "126", "target not started", "start-failed"},
			"found by its name": {"program", "126", "target not started", "start-failed"},
			"a cleanup command": {"/bin/true", "0", "cleanup command not started", "exited"},
		} {
			t.Run(name+", guard "+guard, func(t *testing.T) {
				t.Parallel()
				p := startHung(t, "--guard "+guard+
					` --on-exit 'echo cleaned $GRACEFUL_REASON >>done' --on-exit '["hung/other"]' -- `+c.command)
				started := map[bool]string{true: "target started", false: "cleanup command started"}[name != "a cleanup command"]
				p.until("start", func() bool { return strings.Contains(p.text(), started) })
				_ = unix.Kill(p.cmd.Process.Pid, unix.SIGUSR1)
				p.want(c.status)
				p.wantFile("done", "cleaned "+c.reason+"\n")
				if !strings.Contains(p.text(), c.says) || !strings.Contains(p.text(), "not connected") {
					t.Errorf("graceful wrote no %q with a reason:\n%s", c.says, p.text())
				}
			})
		}
	}
}

// startHung runs graceful in a directory that contains the file system ./hung, which is the first directory of PATH.
// The file system does not answer until the returned program gets SIGUSR1. Then all requests fail. The file pid
// contains the pid of graceful.
func startHung(t *testing.T, args string) *proc {
	t.Helper()
	return start(t, "helper", "hang", "sh", "-c",
		"g=$(command -v graceful); echo $$ >pid; PATH=hung:$PATH exec $g run -v "+args)
}

func init() { roles["hang"] = hang }

// hang runs a program with a FUSE file system at hung, in a new mount namespace. The file system answers no request.
// After SIGUSR1 all requests fail.
func hang(args []string) int {
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	runtime.LockOSThread() // only this thread sees the mount, so this thread must start the program
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGUSR1)
	check(unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)) // affects only this thread
	check(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	check(os.Mkdir("hung", 0o755))
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	check(err)
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())
	check(unix.Mount("hung", "hung", "fuse.hung", 0, options))
	c := exec.Command(args[0], args[1:]...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	check(c.Start())
	go func() {
		<-told
		fuse.Close()
	}()
	_ = c.Wait()
	if status := c.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return c.ProcessState.ExitCode()
}

// graceful and the guard are killed while the start of a process hangs. That process still holds the lock of the
// ledger. Until that process has ended, recover and a new run with the name of the killed run refuse, and name the
// process. They do not report that another process is finishing the run.
func TestRecover_hangingStartHoldsTheLock(t *testing.T) {
	need(t, "linux", "root", "fuse")
	for name, c := range map[string]struct{ args, started, reason string }{
		"the target":        {"-- hung/program", "target started", "recovered"},
		"a cleanup command": {`--on-exit '["hung/program"]' -- /bin/true`, "cleanup command started", "exited"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "helper", "hang", "sh", "-c", "graceful run -v --state-dir state --name x --on-exit "+
				"'echo $GRACEFUL_REASON >>cleaned' "+c.args+" & echo $! >pid; until [ -e go ]; do sleep 0.01; done")
			p.waitForText(c.started)
			graceful := p.pidIn("pid")
			hung := childrenOf(guardOf(graceful))[0]
			p.until("record of the start", func() bool {
				text, _ := os.ReadFile(p.dir + "/state/x.ledger")
				return strings.Contains(strings.ToLower(string(text)), fmt.Sprintf(`"pid":%d,`, hung))
			})
			killBoth(t, graceful)
			recover := []string{"recover", "--state-dir", "state"}
			for _, x := range []struct {
				status string
				says   string
				args   []string
			}{
				{"1", fmt.Sprintf(" name=x pid=%d process=graceful: ", hung), recover},
				{"1", fmt.Sprintf(" pid=%d ", hung), append(recover, "--name", "x")},
				{"0", "", append(recover, "--name", "y")},
				{"125", fmt.Sprintf("its process %d ", hung), []string{"run", "--state-dir", "state", "--name", "x", "--", "true"}},
				{"0", "", []string{"run", "--state-dir", "state", "--", "/bin/true"}},
			} {
				if status, text := p.runGraceful(nil, x.args...); status != x.status || !strings.Contains(text, x.says) ||
					(text == "") != (x.says == "") || strings.Count(text, "\n") > 1 {
					t.Errorf("%q: status %s, want %s; it wrote:\n%s", x.args, status, x.status, text)
				}
			}
			if isThere(p.dir+"/cleaned") || !alive(hung) {
				t.Error("recover finished the run")
			}
			p.touch("go")
			p.want("0")
			p.until("end of the process", func() bool { return !alive(hung) })
			p.runGraceful(nil, recover...)
			p.wantFile("cleaned", c.reason+"\n")
			if left := strings.TrimSuffix(inDir(t, p.dir+"/state"), "x.ledger.interrupted"); left != "" {
				t.Errorf("left in the state directory: %s", left)
			}
		})
	}
}
