package terminal

import (
	"bufio"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Data in a pipe on standard input reaches the target, and then every read returns end of file.
func TestPTYInput_endOfFile(t *testing.T) {
	inSession(t, func(s session) {
		w := s.inputPipe()
		p := s.openPTY()
		target := s.start(0, "lines", s.dup(p.Slave()))
		p.Begin(true)
		for _, line := range []string{"one", "two"} {
			s.write(w, line+"\n")
			target.says("got " + line)
		}
		w.Close()
		target.says("end of file")
		target.says("end of file")
		target.exits()
	})
}

// copyLines writes the lines that it reads, and a line for each end of file. It returns after the second end of file.
func copyLines([]string) {
	for range 2 {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			fmt.Println("got", lines.Text())
		}
		fmt.Println("end of file")
	}
}

// More input than a terminal can hold waits for the target, and none is lost.
func TestPTYInput_all(t *testing.T) {
	inSession(t, func(s session) {
		w := s.inputPipe()
		p := s.openPTY()
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
	})
}

// PTY types the end-of-file character only for targets that interpret it, and only after such a target has read all
// input.
func TestPTYTypeEOF(t *testing.T) {
	const canonical, signals = unix.ICANON, unix.ISIG
	for name, c := range map[string]struct {
		modes  uint32
		unread string
		typed  string // what a non-blocking read returns after typeEOF; "none": no data
		want   bool   // result of typeEOF
	}{
		"canonical mode":                   {canonical | signals, "", "", true},
		"canonical mode, with unread text": {canonical | signals, "line\n", "line\n", false},
		"a line editor":                    {signals, "", "\x04", false},
		"a raw terminal":                   {0, "", "none", false},
	} {
		t.Run(name, func(t *testing.T) {
			inSession(t, func(s session) {
				p := s.openPTY()
				m := s.modes(p.Slave())
				m.Lflag = m.Lflag&^(unix.ICANON|unix.ISIG|unix.ECHO) | c.modes
				s.setModes(p.Slave(), m)
				if _, err := unix.Write(p.master, []byte(c.unread)); err != nil {
					t.Fatal(err)
				}
				if c.unread != "" {
					s.until("unread text", func() bool { return ready(p.Slave(), unix.POLLIN) })
				}
				if got := p.typeEOF(); got != c.want {
					t.Errorf("typeEOF returns %t", got)
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
		})
	}
}

// Finish ends the input: later data stays unread.
func TestPTYFinish_endsInput(t *testing.T) {
	inSession(t, func(s session) {
		w := s.inputPipe()
		p := s.openPTY()
		s.dup(p.Slave()) // as if a process that survives the target had the slave open
		p.Begin(true)
		s.within("end of the relay", p.Finish(0, 0))
		s.write(w, "late\n")
		s.stays("unread input", unread)
	})
}
