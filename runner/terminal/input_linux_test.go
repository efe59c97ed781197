package terminal

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// dup returns a file for a descriptor that stays open.
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

// What is in a pipe on standard input reaches the target, and then every read returns end of file.
func TestPTYInput_endOfFile(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	w := s.inputPipe()
	p, _ := s.openPTY()
	target := s.start(0, "lines", s.dup(p.Slave()))
	p.Begin(true)
	for _, line := range []string{"one", "two"} {
		if _, err := w.WriteString(line + "\n"); err != nil {
			t.Fatal(err)
		}
		target.says("got " + line)
	}
	w.Close()
	target.says("end of file")
	target.says("end of file")
	target.exits()
}

// More input than a terminal holds waits for the target, and none is lost.
func TestPTYInput_all(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	w := s.inputPipe()
	p, _ := s.openPTY()
	slave := s.slaveOf(p)
	p.Begin(true)
	want := noise(200_000)
	go func() {
		_, _ = w.Write(want)
	}()
	const holds = 4095 // N_TTY_BUF_SIZE - 1
	s.until("full terminal", func() bool {
		n, err := unix.IoctlGetInt(p.Slave(), unix.TIOCINQ)
		return err == nil && n >= holds
	})
	got, buffer := []byte{}, make([]byte, 1000)
	for len(got) < len(want) {
		n, err := slave.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buffer[:n]...)
	}
	if string(got) != string(want) {
		t.Error("other bytes arrived")
	}
}

// The end-of-file character is typed for targets that take it for one, and not before they have read everything.
func TestPTYTypeEOF(t *testing.T) {
	const canonical, signals = unix.ICANON, unix.ISIG
	for name, c := range map[string]struct {
		modes  uint32
		unread string
		typed  string // what a read that does not wait finds then
		want   bool
	}{
		"canonical mode":                   {canonical | signals, "", "", true},
		"canonical mode, with unread text": {canonical | signals, "line\n", "line\n", false},
		"a line editor":                    {signals, "", "\x04", false},
		"a raw terminal":                   {0, "", "none", false},
	} {
		t.Run(name, func(t *testing.T) {
			s, ok := inSession(t)
			if !ok {
				return
			}
			p, _ := s.openPTY()
			m := s.modes(p.Slave())
			m.Lflag = m.Lflag&^(unix.ICANON|unix.ISIG|unix.ECHO) | c.modes
			if err := setModes(p.Slave(), &m); err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(p.master, []byte(c.unread)); err != nil {
				t.Fatal(err)
			}
			if c.unread != "" {
				s.until("unread text", func() bool { return ready(p.Slave(), unix.POLLIN) })
			}
			if got := p.typeEOF(); got != c.want {
				t.Errorf("a read returns end of file: %t", got)
			}
			got := "none"
			if c.typed != "none" {
				s.until("input", func() bool { return ready(p.Slave(), unix.POLLIN) })
			}
			if err := unix.SetNonblock(p.Slave(), true); err != nil {
				t.Fatal(err)
			}
			buffer := make([]byte, 100)
			if n, err := unix.Read(p.Slave(), buffer); err == nil {
				got = string(buffer[:n])
			}
			if got != c.typed {
				t.Errorf("a read finds %q, want %q", got, c.typed)
			}
		})
	}
}

// Finish ends the input: what comes later stays where it is.
func TestPTYFinish_endsInput(t *testing.T) {
	s, ok := inSession(t)
	if !ok {
		return
	}
	w := s.inputPipe()
	p, _ := s.openPTY()
	s.dup(p.Slave()) // a process that survives the target
	p.Begin(true)
	s.within("end of the relay", p.Finish(0, 0))
	if _, err := w.WriteString("late\n"); err != nil {
		t.Fatal(err)
	}
	s.stays("unread input", unread)
}
