package terminal

import (
	"os"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// The target's terminal begins with the modes and the size of graceful's, and follows its size.
func TestOpenPTY_likeOurs(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	ours := s.modes(0)
	ours.Lflag &^= unix.ECHOE
	if err := setModes(0, &ours); err != nil {
		t.Fatal(err)
	}
	s.resize(s.master, 33, 101)
	p, _ := s.openPTY()
	s.wantModes("of the target's terminal,", p.Slave(), ours)
	s.wantSize(p, 33, 101)
	if p.Resize() {
		t.Error("the size changes, and it is the same")
	}
	s.resize(s.master, 34, 101)
	if !p.Resize() {
		t.Error("the size does not change")
	}
	s.wantSize(p, 34, 101)
}

// While another job is in the foreground, the modes of graceful's terminal are that job's.
func TestOpenPTY_background(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	plain, _ := s.openPTY()
	s.shell(s.startReady(0, "wait").pid)
	want := s.modes(plain.Slave())
	m := raw(&want)
	withoutSIGTTOU(func() { _ = setModes(0, &m) })
	p, _ := s.openPTY()
	if got := s.modes(p.Slave()); got.Lflag&unix.ICANON == 0 {
		t.Errorf("the target's terminal is raw: %+v", got)
	}
}

// Without a terminal of graceful's, nothing is echoed and the size is that of the environment.
func TestOpenPTY_noTerminal(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	s.put(null, 0)
	for _, c := range []struct {
		lines, columns string
		rows, cols     uint16
	}{
		{"", "", 24, 80}, {"30", "100", 30, 100}, {"", "100", 24, 100}, {"-1", "x", 24, 80}, {"0", "70000", 24, 80},
	} {
		t.Setenv("LINES", c.lines)
		t.Setenv("COLUMNS", c.columns)
		p, _ := s.openPTY()
		s.wantSize(p, c.rows, c.cols)
		if s.modes(p.Slave()).Lflag&unix.ECHO != 0 {
			t.Error("the target's terminal echoes")
		}
		if p.Resize() {
			t.Error("the size changes, and there is no terminal")
		}
	}
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

// Graceful's terminal is raw while input is relayed, except while graceful is suspended; at the end it is as it was.
func TestPTYModes(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	before := s.modes(0)
	during := raw(&before)
	p, _ := s.openPTY()
	s.wantModes("before Begin", 0, before)
	p.Begin(true)
	s.wantModes("after Begin", 0, during)
	p.Pause()
	s.wantModes("after Pause", 0, before)
	p.Heard(unix.SIGWINCH)
	s.types("for the shell\r")
	s.until("keys", unread)
	s.stays("keys for the shell", unread)
	s.wantModes("after another signal", 0, before)
	p.Heard(unix.SIGCONT)
	s.wantModes("after SIGCONT", 0, during)
	p.Restore()
	s.wantModes("after Restore", 0, before)
	p.Heard(unix.SIGCONT)
	s.wantModes("at the end", 0, before)
}

// After Finish graceful's terminal is as it was.
func TestPTYModes_finish(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	before := s.modes(0)
	p, _ := s.openPTY()
	p.Begin(true)
	s.within("end of the relay", p.Finish(0, 0))
	s.wantModes("after Finish", 0, before)
}

// Restoring leaves modes alone that another process has set meanwhile; and those are the modes to restore from then on.
func TestPTYModes_setByOthers(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	p, _ := s.openPTY()
	p.Begin(true)
	others := s.modes(0)
	others.Cc[unix.VERASE] = 'x'
	if err := setModes(0, &others); err != nil {
		t.Fatal(err)
	}
	p.Pause()
	s.wantModes("after Pause", 0, others)
	others.Lflag |= unix.ICANON
	if err := setModes(0, &others); err != nil {
		t.Fatal(err)
	}
	p.Heard(unix.SIGCONT)
	s.wantModes("after SIGCONT", 0, raw(&others))
	p.Restore()
	s.wantModes("after Restore", 0, others)
}

// In the background neither modes nor keys of the terminal are graceful's. No signal announces that the shell puts a
// running job into the foreground.
func TestPTYModes_background(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	other := s.startReady(0, "wait")
	s.shell(other.pid)
	before := s.modes(0)
	p, _ := s.openPTY()
	target := s.start(0, "lines", s.dup(p.Slave()))
	p.Begin(true)
	s.types("a line\r")
	s.until("keys", unread)
	s.stays("keys for the other job", unread)
	s.wantModes("in the background", 0, before)
	s.shell(s.group)
	target.says("got a line")
	s.wantModes("in the foreground", 0, raw(&before))

	p.Pause()
	s.shell(other.pid)
	p.Heard(unix.SIGCONT) // bg
	s.wantModes("after bg", 0, before)
	s.shell(s.group)
	p.Heard(unix.SIGCONT) // fg
	s.wantModes("after fg", 0, raw(&before))
}

// A terminal that is not the controlling one has no background.
func TestPTYModes_notControlling(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	_, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	s.put(slave, 0)
	before := s.modes(0)
	p, _ := s.openPTY()
	p.Begin(true)
	s.wantModes("after Begin", 0, raw(&before))
	p.Restore()
	s.wantModes("after Restore", 0, before)
}

// Only output is relayed after Begin(false): the terminal stays as it is.
func TestPTYBegin_outputOnly(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	before := s.modes(0)
	p, _ := s.openPTY()
	p.Begin(false)
	s.types("a line\r")
	s.until("keys", unread)
	s.stays("keys", unread)
	s.wantModes("after Begin", 0, before)
}

func TestIsTerminal(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	s.outputPipe()
	if !IsTerminal(0) || IsTerminal(1) || IsTerminal(-1) {
		t.Errorf("the terminal is one: %t; a pipe: %t; nothing: %t", IsTerminal(0), IsTerminal(1), IsTerminal(-1))
	}
}
