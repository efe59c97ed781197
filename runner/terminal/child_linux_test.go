package terminal

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process that a test has started.
type child struct {
	s     session
	cmd   *exec.Cmd
	pid   int
	stdin *os.File       // the writing end of the pipe at its standard input
	lines *bufio.Scanner // its standard output
}

// start starts a role in a process group; 0 means a new group. Standard input is files[0], and standard output is
// files[1]. A missing file means a pipe, and so does nil for standard input.
func (s session) start(group int, role string, files ...*os.File) *child {
	s.Helper()
	c := &child{s: s, cmd: exec.Command(executable())}
	c.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	c.cmd.Stderr = os.Stdout
	in, stdin := s.pipe()
	stdout, out := s.pipe()
	c.cmd.Stdin, c.cmd.Stdout, c.stdin, c.lines = in, out, stdin, bufio.NewScanner(stdout)
	if len(files) > 0 && files[0] != nil {
		c.cmd.Stdin = files[0]
	}
	if len(files) > 1 {
		c.cmd.Stdout = files[1]
	}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group}
	if err := c.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	in.Close()
	out.Close()
	c.pid = c.cmd.Process.Pid
	s.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	return c
}

// startReady starts a role and waits until it is ready.
func (s session) startReady(group int, role string) *child {
	s.Helper()
	c := s.start(group, role)
	c.says("ready")
	return c
}

// startParent starts a process, and a child of that process in another group. pid is the child's pid. If exits is true,
// the parent has exited on return.
func (s session) startParent(exits bool) (parent *child, pid int) {
	s.Helper()
	role := "parent stays"
	if exits {
		role = "parent exits"
	}
	parent = s.start(0, role)
	if _, err := fmt.Sscan(parent.line(), &pid); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	if exits {
		parent.exits()
	}
	return parent, pid
}

func (c *child) line() string {
	c.s.Helper()
	line := make(chan string, 1)
	go func() {
		c.lines.Scan()
		line <- c.lines.Text()
	}()
	select {
	case l := <-line:
		return l
	case <-time.After(patience):
		c.s.Fatalf("%s said nothing", c.cmd.Env[len(c.cmd.Env)-1])
		return ""
	}
}

func (c *child) says(want string) {
	c.s.Helper()
	if got := c.line(); got != want {
		c.s.Fatalf("the process said %q, want %q", got, want)
	}
}

func (c *child) signal(sig syscall.Signal) {
	c.s.Helper()
	if err := unix.Kill(c.pid, sig); err != nil {
		c.s.Fatal(err)
	}
}

// wantSuspended waits until a signal has suspended the process. It fails the test if that signal is not by, or after
// patience.
func (c *child) wantSuspended(by syscall.Signal) {
	c.s.Helper()
	var status unix.WaitStatus
	c.s.until("suspended process", func() bool {
		pid, err := unix.Wait4(c.pid, &status, unix.WUNTRACED|unix.WNOHANG, nil)
		return pid == c.pid || err != nil && err != unix.EINTR
	})
	if !status.Stopped() || status.StopSignal() != by {
		c.s.Fatalf("the process has status %#x, want the status of a suspension by %v", status, by)
	}
}

// wantSignaled waits until the process has ended. It fails the test unless the signal by has ended the process.
func (c *child) wantSignaled(by syscall.Signal) {
	c.s.Helper()
	_ = c.cmd.Wait()
	if status := c.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != by {
		c.s.Fatalf("the process ended as %v, want %v", c.cmd.ProcessState, by)
	}
}

// exits waits until the process has ended. It fails the test unless the process has exited with status 0.
func (c *child) exits() {
	c.s.Helper()
	if err := c.cmd.Wait(); err != nil {
		c.s.Fatal(err)
	}
}
