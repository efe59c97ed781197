//go:build engines

package engines

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// session is a command in a terminal of its own.
type session struct {
	t        *testing.T
	keyboard *os.File   // the other end of the terminal
	ended    chan error // receives the result of the command

	lock   sync.Mutex
	screen bytes.Buffer // the output of the terminal; protected by lock
}

// startSession starts a command in a terminal of 24 lines and 80 columns.
func startSession(t *testing.T, words ...string) *session {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	s := &session{t: t, keyboard: keyboard, ended: make(chan error, 1)}
	s.resize(24, 80)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	go s.read()
	go func() { s.ended <- cmd.Wait() }()
	return s
}

// read collects the text that the terminal shows, until no process has the terminal open any more.
func (s *session) read() {
	for data := make([]byte, 4096); ; {
		n, err := s.keyboard.Read(data)
		s.lock.Lock()
		s.screen.Write(data[:n])
		s.lock.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *session) text() string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.screen.String()
}

func (s *session) press(keys string) {
	s.t.Helper()
	if _, err := s.keyboard.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) resize(lines, columns uint16) {
	s.t.Helper()
	size := &unix.Winsize{Row: lines, Col: columns}
	if err := unix.IoctlSetWinsize(int(s.keyboard.Fd()), unix.TIOCSWINSZ, size); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) shows(text string) {
	s.t.Helper()
	until(s.t, fmt.Sprintf("%q in the terminal", text), func() bool { return strings.Contains(s.text(), text) })
}

// detach presses Ctrl-P and Ctrl-Q until the command has ended. One press may not be enough, because Podman recognises
// the keys only when it reads one at a time.
func (s *session) detach() {
	s.t.Helper()
	until(s.t, "end of the command by Ctrl-P Ctrl-Q", func() bool {
		for _, key := range []string{ctrlP, ctrlQ} {
			_, _ = s.keyboard.WriteString(key)
			select {
			case err := <-s.ended:
				if err != nil {
					s.t.Errorf("the command ended with %v; the terminal shows:\n%s", err, s.text())
				}
				return true
			case <-time.After(300 * time.Millisecond):
			}
		}
		return false
	})
}

const ctrlC, ctrlP, ctrlQ = "\x03", "\x10", "\x11"

// The target runs in the terminal of the container. Each new window size and Ctrl-C reach the target, also after a
// client has detached and another one has attached. Cleanup runs once.
func testContainerTerminal(t *testing.T, e *containerEngine) {
	c := e.newContainer(t)
	client := func(args ...string) *session {
		return startSession(t, append(e.command[:len(e.command):len(e.command)], args...)...)
	}
	first := client(c.flags([]string{"-it"}, "sh", "-c", `trap 'stty size' WINCH; trap 'echo interrupted; exit 5' INT
		setsid sleep $MARK & echo ready; while :; do wait; done`)...)
	first.shows("ready")
	first.resize(33, 101)
	first.shows("33 101")
	first.detach()
	if got := c.inspect("{{.State.Running}}"); got != "true" {
		t.Fatalf("once detached, the container is running: %s", got)
	}
	second := client("attach", c.name)
	second.resize(44, 102)
	second.shows("44 102")
	second.press(ctrlC)
	second.shows("cleaned exited 0") // not stopped: the terminal sends the signal directly to the target
	until(t, "end of the container", func() bool { return c.inspect("{{.State.Running}}") == "false" })
	if got := c.inspect("{{.State.ExitCode}}"); got != "5" {
		t.Errorf("the status is %s, want 5", got)
	}
	until(t, "end of all processes", func() bool { return len(processesOf(c.mark)) == 0 })
	if n := strings.Count(c.text(), "cleaned"); n != 1 {
		t.Errorf("cleanup ran %d times", n)
	}
}
