package integration_test

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// idlePeer is a running peer with a target that waits for signals.
type idlePeer struct {
	pid, target int      // pids of the wrapper and of the target; target is 0 until it is found
	times       *os.File // the times that the target writes
}

// startIdle starts each peer for which peer.idle returns a command line. It gives these wrappers time to finish their
// own start.
func (c *comparison) startIdle() {
	c.t.Helper()
	for _, p := range c.peers {
		command := p.idle()
		if command == nil {
			continue
		}
		idle := &idlePeer{}
		idle.pid, idle.times = c.start(command)
		c.idle[p.name] = idle
		c.readTime(p, idle.times)
		if idle.target = helperBelow(idle.pid); idle.target == 0 {
			c.t.Fatal(p.name, ": found no target")
		}
	}
	time.Sleep(300 * time.Millisecond)
}

// processes returns the processes of an idle wrapper, without the target.
func (c *comparison) processes(p peer) []int {
	idle := c.idle[p.name]
	all := append([]int{idle.pid}, descendantsOf(idle.pid)...)
	return slices.DeleteFunc(all, func(pid int) bool { return pid == idle.target })
}

// endIdle kills the targets, so that the wrappers end. It kills a wrapper whose target was not found.
func (c *comparison) endIdle() {
	for _, idle := range c.idle {
		if idle.target != 0 {
			_ = unix.Kill(idle.target, unix.SIGKILL)
		} else {
			_ = unix.Kill(idle.pid, unix.SIGKILL)
		}
		c.wait(idle.pid)
		_ = idle.times.Close()
	}
}

// readTime reads a time that a peer's target has written.
func (c *comparison) readTime(p peer, from *os.File) int64 {
	c.t.Helper()
	_ = from.SetReadDeadline(time.Now().Add(patience))
	at, err := readTime(from)
	if err != nil {
		text, _ := os.ReadFile(c.errors.Name())
		c.t.Fatalf("%s: no time from the target: %v; standard error:\n%.1000s", p.name, err, text)
	}
	return at
}

// start starts a program, and returns its pid and a pipe with its standard output.
func (c *comparison) start(command []string) (pid int, out *os.File) {
	c.t.Helper()
	out, write, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	defer write.Close()
	return c.fork(c.lookPath(command), command, write), out
}

// run returns the time from before the start of a program until its end, in ns. The test fails unless the program
// succeeds.
func (c *comparison) run(command []string) int64 {
	c.t.Helper()
	path := c.lookPath(command)
	began := monotonic()
	status := c.wait(c.fork(path, command, c.null))
	took := monotonic() - began
	c.check(command, status)
	return took
}

func (c *comparison) lookPath(command []string) string {
	c.t.Helper()
	path, err := exec.LookPath(command[0])
	if err != nil {
		c.t.Fatal(err)
	}
	return path
}

// fork starts a program in a new process group, because timeout(1) signals its own group. It does not use os/exec,
// because the measurement would include the work of that package.
func (c *comparison) fork(path string, command []string, out *os.File) (pid int) {
	c.t.Helper()
	pid, err := syscall.ForkExec(path, command, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{c.null.Fd(), out.Fd(), c.errors.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		c.t.Fatal(command[0], err)
	}
	return pid
}

// wait waits for the end of a program, and returns its wait status. If the program does not end in ten times patience,
// wait kills it. That time is long, because 10,000 cleanup commands take a minute.
func (c *comparison) wait(pid int) (status syscall.WaitStatus) {
	c.t.Helper()
	timer := time.AfterFunc(10*patience, func() { _ = unix.Kill(pid, unix.SIGKILL) })
	defer timer.Stop()
	for {
		_, err := syscall.Wait4(pid, &status, 0, nil)
		if err == nil {
			return status
		}
		if err != syscall.EINTR {
			c.t.Fatal(err)
		}
	}
}

func (c *comparison) check(command []string, status syscall.WaitStatus) {
	c.t.Helper()
	if status != 0 {
		text, _ := os.ReadFile(c.errors.Name())
		c.t.Fatalf("%.200q: wait status %#x; it wrote:\n%.1000s", command, status, text)
	}
}
