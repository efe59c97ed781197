package terminal

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// openPTY opens a terminal for a target.
func (s session) openPTY() *PTY {
	s.Helper()
	p, err := OpenPTY(slog.New(slog.DiscardHandler))
	if err != nil {
		s.Fatal(err)
	}
	return p
}

// slaveOf returns the target's side as a file, with modes in which the terminal transfers all bytes unchanged.
func (s session) slaveOf(p *PTY) *os.File {
	s.Helper()
	m := s.modes(p.Slave())
	s.setModes(p.Slave(), raw(&m))
	return s.dup(p.Slave())
}

// openRelay opens a terminal for a target, whose output Begin will relay to a pipe. slave is the target's side as
// slaveOf returns it, and r is the reading end of the pipe. shut closes the writing end.
func (s session) openRelay() (p *PTY, slave, r *os.File, shut func()) {
	s.Helper()
	p = s.openPTY()
	slave = s.slaveOf(p)
	r, shut = s.outputPipe()
	return p, slave, r, shut
}

// At first the target's terminal has the modes and the size of graceful's terminal. Later it follows changes of the
// size.
func TestOpenPTY_copiesModesAndSize(t *testing.T) {
	inSession(t, func(s session) {
		ours := s.modes(0)
		ours.Lflag &^= unix.ECHOE
		s.setModes(0, ours)
		s.resize(s.master, 33, 101)
		p := s.openPTY()
		s.wantModes("of the target's terminal,", p.Slave(), ours)
		s.wantSize(p, 33, 101)
		if p.Resize() {
			t.Error("Resize reports a change of an equal size")
		}
		s.resize(s.master, 34, 101)
		if !p.Resize() {
			t.Error("Resize reports no change of the size")
		}
		s.wantSize(p, 34, 101)
	})
}

// While another job is in the foreground, graceful's terminal has the modes of that job. The target's terminal does not
// get these modes.
func TestOpenPTY_background(t *testing.T) {
	inSession(t, func(s session) {
		plain := s.openPTY()
		s.shell(s.startReady(0, "wait").pid)
		want := s.modes(plain.Slave())
		m := raw(&want)
		withoutSIGTTOU(func() { _ = setModes(0, &m) })
		p := s.openPTY()
		if got := s.modes(p.Slave()); got.Lflag&unix.ICANON == 0 {
			t.Errorf("the target's terminal is raw: %+v", got)
		}
	})
}

// If graceful has no terminal, echo is off, and the size comes from the environment.
func TestOpenPTY_noTerminal(t *testing.T) {
	inSession(t, func(s session) {
		s.putNull(0)
		for _, c := range []struct {
			lines, columns string
			rows, cols     uint16
		}{
			{"", "", 24, 80}, {"30", "100", 30, 100}, {"", "100", 24, 100}, {"-1", "x", 24, 80}, {"0", "70000", 24, 80},
		} {
			t.Setenv("LINES", c.lines)
			t.Setenv("COLUMNS", c.columns)
			p := s.openPTY()
			s.wantSize(p, c.rows, c.cols)
			if s.modes(p.Slave()).Lflag&unix.ECHO != 0 {
				t.Error("the target's terminal echoes")
			}
			if p.Resize() {
				t.Error("Resize reports a change without a terminal")
			}
		}
	})
}

func (s session) resize(terminal *os.File, rows, cols uint16) {
	s.Helper()
	if err := pty.Setsize(terminal, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		s.Fatal(err)
	}
}

func (s session) wantSize(p *PTY, rows, cols uint16) {
	s.Helper()
	size, err := unix.IoctlGetWinsize(p.Slave(), unix.TIOCGWINSZ)
	if err != nil || size.Row != rows || size.Col != cols {
		s.Errorf("the target's terminal has size %+v, %v; want %d %d", size, err, rows, cols)
	}
}

// A process that inherits the descriptors relays the output of the same terminal. Its Restore sets the modes that
// graceful's terminal had at Save.
func TestInheritPTY_roundTrip(t *testing.T) {
	inSession(t, func(s session) {
		before := s.modes(0)
		p := s.openPTY()
		slave := s.slaveOf(p)
		text, fds := p.Inheritance()
		kept, err := p.Save()
		if err != nil {
			t.Fatal(err)
		}
		if want := []int{p.master, p.slave}; !slices.Equal(fds, want) {
			t.Fatalf("the descriptors are %v, want %v", fds, want)
		}
		for _, fd := range fds {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags != unix.FD_CLOEXEC || err != nil {
				t.Errorf("flags of %d are %#x, %v", fd, flags, err)
			}
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
				t.Fatal(err)
			}
		}
		heir := s.start(0, fmt.Sprintf("inherit %s %s", text, kept), os.Stdin)
		heir.says(fmt.Sprintf("group %d, flags %d %d", s.group, unix.FD_CLOEXEC, unix.FD_CLOEXEC))
		m := raw(&before)
		s.setModes(0, m)
		heir.signal(unix.SIGUSR1)
		heir.says("restored")
		s.wantModes("after the heir has restored them,", 0, before)
		s.start(0, "say hello", nil, slave).exits()
		heir.says("hello")
		s.wantModes("while only output is relayed,", 0, before)
	})
}

// inherit inherits the terminal of another process. After SIGUSR1 it restores the modes of graceful's terminal and
// relays output.
func inherit(args []string) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGUSR1)
	p, err := InheritPTY(args[0], json.RawMessage(args[1]), slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	flags := func(fd int) int { n, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); return n }
	fmt.Printf("group %d, flags %d %d\n", p.group, flags(p.master), flags(p.slave))
	<-told
	p.Restore()
	fmt.Println("restored")
	p.Begin(false)
	<-told
}

func TestInheritPTY_text(t *testing.T) {
	if p, err := InheritPTY("", nil, nil); p != nil || err != nil {
		t.Errorf("without a terminal: %v, %v", p, err)
	}
	for _, text := range []string{"x", "5", "5,", ",5"} {
		if _, err := InheritPTY(text, nil, nil); err == nil {
			t.Errorf("%q is a terminal", text)
		}
	}
	if text, fds := (*PTY)(nil).Inheritance(); text != "" || fds != nil {
		t.Errorf("no terminal is inherited as %q, %v", text, fds)
	}
}
