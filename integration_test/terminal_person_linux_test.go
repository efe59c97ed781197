package integration_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// person simulates a user at a terminal. In the shell, each prompt begins with the last exit status in brackets.
type person struct {
	*proc
	master *os.File
	seen   int           // end of the last text that sees has found
	closed chan struct{} // closed when no process has the terminal any more, or master was closed
}

// atTerminal starts a program as the session leader of a new terminal.
func atTerminal(t *testing.T, args ...string) *person {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		need(t, "pseudo-terminal")
	}
	defer slave.Close()
	// Use os.NewFile with a non-blocking descriptor, because such a file can be closed during a read.
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err = errors.Join(err, unix.SetNonblock(fd, true), master.Close()); err != nil {
		t.Fatal(err)
	}
	s := &person{proc: command(t, args...), master: os.NewFile(uintptr(fd), "terminal"), closed: make(chan struct{})}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	inputrc := filepath.Join(t.TempDir(), "inputrc")
	if err := os.WriteFile(inputrc, []byte("set enable-bracketed-paste off\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.cmd.Env = append(os.Environ(), "PS1=[$?]: ", "TERM=xterm", "INPUTRC="+inputrc, "HISTFILE=", "LESS=", "PAGER=")
	s.resize(24)
	s.start()
	t.Cleanup(func() { s.master.Close() })
	go func() {
		defer close(s.closed)
		_, _ = io.Copy(s.output, s.master)
	}()
	return s
}

// atShell starts an interactive bash that reports the ends of jobs at once, and waits for the prompt of bash. The file
// before then contains the modes of the terminal. If cgroup is not empty, bash runs in that cgroup.
func atShell(t *testing.T, cgroup string) *person {
	t.Helper()
	need(t, "bash", "stty")
	s := atTerminal(t, "sh", "-c", `[ -z "$0" ] || echo $$ >"$0/cgroup.procs"; exec bash --norc --noprofile -i`, cgroup)
	s.sees("]: ")
	s.does("set -b; stty -g >before", "[0]: ")
	return s
}

func (s *person) control(f func(fd int) error) error {
	conn, err := s.master.SyscallConn()
	if err != nil {
		return err
	}
	if failed := conn.Control(func(fd uintptr) { err = f(int(fd)) }); failed != nil {
		return failed
	}
	return err
}

func (s *person) resize(rows uint16) {
	s.t.Helper()
	if err := s.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: 80})
	}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *person) types(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// sees waits until the terminal shows a text. It searches only behind the texts of earlier calls.
func (s *person) sees(want string) {
	s.t.Helper()
	s.until(fmt.Sprintf("%q on the screen", want), func() bool {
		text := s.text()
		i := strings.Index(text[s.seen:], want)
		if i >= 0 {
			s.seen += i + len(want)
		}
		return i >= 0
	})
}

// does types a line, and skips its echo. Then it waits for the texts, in order.
func (s *person) does(line string, wants ...string) {
	s.t.Helper()
	s.types(line + "\r")
	s.sees("\n")
	for _, want := range wants {
		s.sees(want)
	}
}

// waitForForeground waits until the leader of the foreground group has this program name. It returns the leader's pid.
func (s *person) waitForForeground(name string) (pid int) {
	s.t.Helper()
	s.until("foreground group of "+name, func() bool {
		err := s.control(func(fd int) (err error) { pid, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP); return err })
		return err == nil && comm(pid) == name
	})
	return pid
}

// waitUntilReading waits until a program below the shell waits for a key. If a signal arrives before that, the program
// less handles the signal only at the next key.
func (s *person) waitUntilReading(name string) {
	s.t.Helper()
	s.until(name+" that waits for a key", func() bool {
		below := childrenOf(s.cmd.Process.Pid)
		for i := 0; i < len(below); i++ {
			where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", below[i]))
			if comm(below[i]) == name && strings.HasPrefix(string(where), "wait_woken") { // called by n_tty_read
				return true
			}
			below = append(below, childrenOf(below[i])...)
		}
		return false
	})
}

// wantOriginalModes fails the test unless the modes of the terminal are the original ones.
func (s *person) wantOriginalModes() {
	s.t.Helper()
	s.does("stty -g | cmp - before", "[0]: ")
}

// leader waits until a graceful is the only child of the shell, and returns the pid of that graceful.
func (s *person) leader() (pid int) {
	s.t.Helper()
	s.until("graceful in the shell", func() bool {
		children := childrenOf(s.cmd.Process.Pid)
		if len(children) == 1 {
			pid = children[0]
		}
		return pid != 0 && comm(pid) == "graceful"
	})
	return pid
}
