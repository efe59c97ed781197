package terminal

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Terminals are about sessions and standard descriptors, which a process has once. So each test runs in a process of
// its own, the leader of a session with a controlling terminal (inSession). It starts this binary again for the
// processes that it needs (roles).
const (
	sessionVariable = "GRACEFUL_TEST_SESSION"
	roleVariable    = "GRACEFUL_TEST_ROLE"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		args := strings.Fields(name)
		roles[args[0]](args[1:])
		os.Exit(0)
	}
	if os.Getenv(sessionVariable) != "" { // a test may put something else at descriptor 1
		fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			panic(err)
		}
		os.Stdout = os.NewFile(uintptr(fd), "test output")
	}
	os.Exit(m.Run())
}

// roles are what a process can do. It writes lines to its standard output, and ends when its standard input ends.
var roles = map[string]func(args []string){
	"wait": func([]string) {
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
	},
	// read reads lines from the controlling terminal.
	"read": func([]string) {
		tty, err := os.Open(device)
		if err != nil {
			panic(err)
		}
		fmt.Println("ready")
		for lines := bufio.NewScanner(tty); lines.Scan(); {
			fmt.Println("got", lines.Text())
		}
	},
	// raw makes the controlling terminal raw when it is told to.
	"raw": func([]string) {
		fmt.Println("ready")
		_, _ = os.Stdin.Read(make([]byte, 1))
		err := (&Terminal{}).use(func(fd int) error {
			was, err := modes(fd)
			if err != nil {
				return err
			}
			to := raw(was)
			return setModes(fd, &to)
		})
		fmt.Println("raw", err)
		_, _ = io.Copy(io.Discard, os.Stdin)
	},
	// parent starts a process in a group of its own, and exits if it is told to: the process is then reparented.
	"parent": func(args []string) {
		c := exec.Command(executable())
		c.Env = append(os.Environ(), roleVariable+"=wait")
		c.Stdin, c.SysProcAttr = os.Stdin, &syscall.SysProcAttr{Setpgid: true}
		if err := c.Start(); err != nil {
			panic(err)
		}
		fmt.Println(c.Process.Pid)
		if args[0] != "exits" {
			_ = c.Wait()
		}
	},
	// suspend catches SIGTSTP, suspends its group by it all the same, and says when it catches the next.
	"suspend": func([]string) {
		heard := make(chan os.Signal, 10)
		signal.Notify(heard, unix.SIGTSTP, unix.SIGCONT)
		var t Terminal
		t.Suspend(unix.SIGTSTP)
		for sig := range heard {
			if sig == unix.SIGCONT {
				t.Resumed()
			}
			fmt.Println("heard", sig)
		}
	},
	"pour":    pour,
	"flood":   flood,
	"say":     say,
	"lines":   copyLines,
	"inherit": inherit,
}

func executable() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

// session is the controlling terminal of a test's process, which is the leader of the session and in the foreground.
type session struct {
	*testing.T
	master *os.File
	group  int // of the leader
}

// inSession runs the calling test in a session of its own. The caller returns when ok is false: the test has run.
func inSession(t *testing.T) (s session, ok bool) {
	t.Helper()
	if os.Getenv(sessionVariable) == t.Name() {
		return session{t, os.NewFile(3, "master"), unix.Getpgrp()}, true
	}
	t.Parallel()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	name := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
	c := exec.Command(executable(), "-test.run="+name, "-test.timeout=60s")
	c.Env = append(os.Environ(), sessionVariable+"="+t.Name(), "GORACE=atexit_sleep_ms=0")
	var out bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = slave, &out, &out
	c.ExtraFiles = []*os.File{master}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	c.WaitDelay = patience
	if err := c.Run(); err != nil || !strings.Contains(out.String(), "PASS") {
		t.Errorf("%v\n%s", err, out.Bytes())
	}
	return session{}, false
}

// until waits for a condition.
func (s session) until(what string, is func() bool) {
	s.Helper()
	for late := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			s.Fatalf("no %s", what)
		}
	}
}

// stays requires that a condition holds for a while.
func (s session) stays(what string, is func() bool) {
	s.Helper()
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !is() {
			s.Fatalf("no %s", what)
		}
	}
}

// unread reports whether standard input has bytes that were not read.
func unread() bool { return ready(0, unix.POLLIN) }

func (s session) types(keys string) {
	s.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.Fatal(err)
	}
}

// shell makes a group the foreground group, as a shell does.
func (s session) shell(group int) {
	s.Helper()
	var err error
	withoutSIGTTOU(func() { err = unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, group) })
	if err != nil {
		s.Fatalf("group %d: %v", group, err)
	}
}

func (s session) wantForeground(group int) {
	s.Helper()
	if got, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); got != group || err != nil {
		s.Fatalf("the foreground group is %d, %v; want %d", got, err, group)
	}
}

// modes returns the modes of the terminal at a descriptor.
func (s session) modes(fd int) unix.Termios {
	s.Helper()
	m, err := modes(fd)
	if err != nil {
		s.Fatal(err)
	}
	return *m
}

func (s session) wantModes(when string, fd int, want unix.Termios) {
	s.Helper()
	if got := s.modes(fd); got != want {
		s.Errorf("%s the modes are %+v, want %+v", when, got, want)
	}
}

// put makes file the descriptor fd of this process.
func (s session) put(file *os.File, fd int) {
	s.Helper()
	if err := unix.Dup3(int(file.Fd()), fd, 0); err != nil {
		s.Fatal(err)
	}
}

func (s session) pipe() (r, w *os.File) {
	s.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		s.Fatal(err)
	}
	return r, w
}

// child is a process that a test has started.
type child struct {
	s     session
	cmd   *exec.Cmd
	pid   int
	stdin *os.File
	lines *bufio.Scanner
}

// start starts a role in a process group: 0 is a group of its own. Its standard input and output are pipes unless files
// has others.
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

// startParent starts a process and a child of it in another group. If exits is set, the process has exited.
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
		if err := parent.cmd.Wait(); err != nil {
			s.Fatal(err)
		}
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

// wantSuspended waits until the process is suspended, by that signal.
func (c *child) wantSuspended(by syscall.Signal) {
	c.s.Helper()
	var status unix.WaitStatus
	c.s.until("suspended process", func() bool {
		pid, err := unix.Wait4(c.pid, &status, unix.WUNTRACED|unix.WNOHANG, nil)
		return pid == c.pid || err != nil && err != unix.EINTR
	})
	if !status.Stopped() || status.StopSignal() != by {
		c.s.Fatalf("the process has status %#x, want one that says suspended by %v", status, by)
	}
}

// wantSignaled waits until the process has ended by that signal.
func (c *child) wantSignaled(by syscall.Signal) {
	c.s.Helper()
	_ = c.cmd.Wait()
	if status := c.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != by {
		c.s.Fatalf("the process ended as %v, want %v", c.cmd.ProcessState, by)
	}
}
