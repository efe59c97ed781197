package terminal

import (
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Graceful's terminal is raw after Begin, except between Pause and SIGCONT, when graceful also reads no input. After
// Restore the terminal keeps its old modes.
func TestPTYModes(t *testing.T) {
	inSession(t, func(s session) {
		before := s.modes(0)
		during := raw(&before)
		p := s.openPTY()
		s.wantModes("before Begin", 0, before)
		p.Begin(true)
		s.wantModes("after Begin", 0, during)
		p.Pause()
		s.wantModes("after Pause", 0, before)
		p.HandleSignal(unix.SIGWINCH)
		s.types("for the shell\r")
		s.until("keys", unread)
		s.stays("keys for the shell", unread)
		s.wantModes("after another signal", 0, before)
		p.HandleSignal(unix.SIGCONT)
		s.wantModes("after SIGCONT", 0, during)
		p.Restore()
		s.wantModes("after Restore", 0, before)
		p.HandleSignal(unix.SIGCONT)
		s.wantModes("at the end", 0, before)
	})
}

// After Finish graceful's terminal has its old modes.
func TestPTYModes_finish(t *testing.T) {
	inSession(t, func(s session) {
		before := s.modes(0)
		p := s.openPTY()
		p.Begin(true)
		s.within("end of the relay", p.Finish(0, 0))
		s.wantModes("after Finish", 0, before)
	})
}

// Pause keeps modes that another process has set meanwhile. After SIGCONT, Restore restores the modes that the terminal
// had just before that SIGCONT.
func TestPTYModes_setByAnotherProcess(t *testing.T) {
	inSession(t, func(s session) {
		p := s.openPTY()
		p.Begin(true)
		others := s.modes(0)
		others.Cc[unix.VERASE] = 'x'
		s.setModes(0, others)
		p.Pause()
		s.wantModes("after Pause", 0, others)
		others.Lflag |= unix.ICANON
		s.setModes(0, others)
		p.HandleSignal(unix.SIGCONT)
		s.wantModes("after SIGCONT", 0, raw(&others))
		p.Restore()
		s.wantModes("after Restore", 0, others)
	})
}

// In the background graceful does not change the terminal's modes, and does not read its input. As soon as the shell
// puts graceful's group into the foreground, graceful does both, even without a SIGCONT.
func TestPTYModes_background(t *testing.T) {
	inSession(t, func(s session) {
		other := s.startReady(0, "wait")
		s.shell(other.pid)
		before := s.modes(0)
		p := s.openPTY()
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
		p.HandleSignal(unix.SIGCONT) // what bg does
		s.wantModes("after bg", 0, before)
		s.shell(s.group)
		p.HandleSignal(unix.SIGCONT) // what fg does
		s.wantModes("after fg", 0, raw(&before))
	})
}

// Begin makes a terminal raw that is not the controlling terminal, because such a terminal has no background.
func TestPTYModes_notControlling(t *testing.T) {
	inSession(t, func(s session) {
		_, slave, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		s.put(slave, 0)
		before := s.modes(0)
		p := s.openPTY()
		p.Begin(true)
		s.wantModes("after Begin", 0, raw(&before))
		p.Restore()
		s.wantModes("after Restore", 0, before)
	})
}

// After Begin(false) only output is relayed, and graceful's terminal does not change.
func TestPTYBegin_outputOnly(t *testing.T) {
	inSession(t, func(s session) {
		before := s.modes(0)
		p := s.openPTY()
		p.Begin(false)
		s.types("a line\r")
		s.until("keys", unread)
		s.stays("keys", unread)
		s.wantModes("after Begin", 0, before)
	})
}

func TestIsTerminal(t *testing.T) {
	inSession(t, func(s session) {
		s.outputPipe()
		if !IsTerminal(0) || IsTerminal(1) || IsTerminal(-1) {
			t.Errorf("IsTerminal: terminal %t, pipe %t, no descriptor %t", IsTerminal(0), IsTerminal(1), IsTerminal(-1))
		}
	})
}
