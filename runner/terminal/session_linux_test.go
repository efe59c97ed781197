package terminal

import (
	"bufio"
	"bytes"
	"errors"
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

// Tests of terminals need a session and standard descriptors, and a process has only one of each. So each test runs in
// a new process, which leads a session with a controlling terminal (inSession). That process starts this binary for
// other processes (roles).
const (
	sessionVariable = "GRACEFUL_TEST_SESSION"
	roleVariable    = "GRACEFUL_TEST_ROLE"
)

// patience is the time limit of until and of similar waits in the tests.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		args := strings.Fields(name)
		roles[args[0]](args[1:])
		os.Exit(0)
	}
	if os.Getenv(sessionVariable) != "" { // keep a copy of descriptor 1, which a test may replace
		fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			panic(err)
		}
		os.Stdout = os.NewFile(uintptr(fd), "test output")
	}
	os.Exit(m.Run())
}

// roles contains the programs that tests start as processes. Most roles write lines to standard output, and wait until
// standard input ends.
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
	// raw makes the controlling terminal raw when it reads a byte.
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
	// parent starts a process in a new group, and writes the pid of that process. With the argument "exits", parent
	// then exits, so that the process is reparented.
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
	// suspend catches SIGTSTP and nevertheless suspends its group by SIGTSTP. After that it writes a line for each
	// SIGTSTP and SIGCONT that it catches.
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

// session is a test in a process of its own. That process leads a session with a controlling terminal, and at first is
// in the foreground.
type session struct {
	*testing.T
	master *os.File // the other side of the terminal
	group  int      // process group of the session's leader
}

// inSession runs a test in a new session. It calls test in the process that leads the session.
func inSession(t *testing.T, test func(s session)) {
	t.Helper()
	inSessionOf(t, &syscall.SysProcAttr{Setsid: true, Setctty: true}, test)
}

// asPID1 does what inSession does, but calls test in PID 1 of a new PID namespace. The process group of that process is
// 1. asPID1 skips the test unless root runs it.
func asPID1(t *testing.T, test func(s session)) {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("root is needed")
	}
	attr := &syscall.SysProcAttr{Setsid: true, Setctty: true, Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	inSessionOf(t, attr, func(s session) {
		if err := errors.Join(
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, ""),
		); err != nil {
			t.Fatal(err)
		}
		test(s)
	})
}

// inSessionOf runs this binary again, for this test only, in a process that attr describes. In that process, which
// leads a session, inSessionOf calls test.
func inSessionOf(t *testing.T, attr *syscall.SysProcAttr, test func(s session)) {
	t.Helper()
	if os.Getenv(sessionVariable) == t.Name() {
		test(session{t, os.NewFile(3, "master"), unix.Getpgrp()})
		return
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
	c.SysProcAttr = attr
	c.WaitDelay = patience
	if err := c.Run(); err != nil || !strings.Contains(out.String(), "PASS") {
		t.Errorf("%v\n%s", err, out.Bytes())
	}
}

// until polls a condition until it is true. After patience it fails the test.
func (s session) until(what string, is func() bool) {
	s.Helper()
	for late := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			s.Fatalf("no %s", what)
		}
	}
}

// within fails the test unless a channel is closed before patience is over.
func (s session) within(what string, done <-chan struct{}) {
	s.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		s.Fatalf("no %s", what)
	}
}

// stays fails the test unless a condition is true for some time.
func (s session) stays(what string, is func() bool) {
	s.Helper()
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !is() {
			s.Fatalf("no %s", what)
		}
	}
}

// unread reports whether standard input has unread bytes.
func unread() bool { return ready(0, unix.POLLIN) }

func (s session) types(keys string) {
	s.Helper()
	s.write(s.master, keys)
}

func (s session) write(to *os.File, text string) {
	s.Helper()
	if _, err := to.WriteString(text); err != nil {
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

func (s session) setModes(fd int, m unix.Termios) {
	s.Helper()
	if err := setModes(fd, &m); err != nil {
		s.Fatal(err)
	}
}

func (s session) wantModes(when string, fd int, want unix.Termios) {
	s.Helper()
	if got := s.modes(fd); got != want {
		s.Errorf("%s the modes are %+v, want %+v", when, got, want)
	}
}

// put makes fd a duplicate of the descriptor of file.
func (s session) put(file *os.File, fd int) {
	s.Helper()
	if err := unix.Dup3(int(file.Fd()), fd, 0); err != nil {
		s.Fatal(err)
	}
}

// putNull makes /dev/null the descriptor fd of this process.
func (s session) putNull(fd int) {
	s.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		s.Fatal(err)
	}
	s.put(null, fd)
}

// dup returns a file for a duplicate of a descriptor.
func (s session) dup(fd int) *os.File {
	s.Helper()
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		s.Fatal(err)
	}
	return os.NewFile(uintptr(copied), "copy")
}

// inputPipe makes standard input a pipe and returns its writing end.
func (s session) inputPipe() *os.File {
	s.Helper()
	r, w := s.pipe()
	s.put(r, 0)
	r.Close()
	return w
}

// outputPipe makes standard output a pipe and returns its reading end. shut closes the writing end.
func (s session) outputPipe() (r *os.File, shut func()) {
	s.Helper()
	r, w := s.pipe()
	s.put(w, 1)
	w.Close()
	return r, func() { s.putNull(1) }
}

func (s session) pipe() (r, w *os.File) {
	s.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		s.Fatal(err)
	}
	return r, w
}
