package terminal

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Begin begins to relay output. If input is true, it also begins to relay input. While input is relayed, graceful's
// terminal is raw whenever graceful is in its foreground. Only the first call of Begin has an effect.
func (p *PTY) Begin(input bool) {
	p.locked(func() {
		if !p.begun {
			p.begun, p.inputRelayed = true, input
			p.makeRaw()
			close(p.beginning)
		}
	})
}

// HandleSignal handles a signal to graceful. SIGCONT ends the effect of Pause. After SIGCONT graceful may be in the
// foreground, so HandleSignal calls makeRaw. Other signals have no effect.
func (p *PTY) HandleSignal(sig syscall.Signal) {
	if sig != unix.SIGCONT {
		return
	}
	p.locked(func() {
		p.paused = false
		if p.begun {
			p.makeRaw()
		}
		p.wakeInput()
	})
}

// Pause restores the modes of graceful's terminal before graceful is suspended. It stops relaying input until SIGCONT.
func (p *PTY) Pause() {
	p.locked(func() {
		p.paused = true
		p.restoreModes()
	})
}

// Restore restores the modes of graceful's terminal permanently, and ends the relay of input.
func (p *PTY) Restore() {
	p.locked(func() {
		p.over = true
		p.restoreModes()
	})
}

// makeRaw makes graceful's terminal raw if input is relayed and graceful is in the foreground. It does nothing between
// Pause and SIGCONT, or after Finish or Restore. The caller holds the lock.
func (p *PTY) makeRaw() {
	if !p.inputRelayed || p.paused || p.over || !p.inForeground() {
		return
	}
	was, err := modes(0)
	if err != nil {
		return
	}
	p.inFront = true
	if p.savedModes == nil || *was != raw(p.savedModes) {
		p.savedModes = was
	}
	to := raw(was)
	withoutSIGTTOU(func() { _ = setModes(0, &to) })
}

// restoreModes undoes makeRaw, unless another process has set other modes meanwhile.
func (p *PTY) restoreModes() {
	if p.savedModes == nil {
		return
	}
	if now, err := modes(0); err == nil && *now == raw(p.savedModes) {
		withoutSIGTTOU(func() { _ = setModes(0, p.savedModes) })
	}
}

// inForeground reports whether graceful is in the foreground of the terminal on standard input. inForeground returns
// true for a terminal that is not the controlling terminal, because such a terminal has no background, and for any
// other file.
func (p *PTY) inForeground() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err != nil || group == p.group
}

// raw returns modes in which a terminal transfers all bytes unchanged, without echo and signals (cfmakeraw(3)).
func raw(m *unix.Termios) unix.Termios {
	to := *m
	to.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP
	to.Iflag &^= unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	to.Oflag &^= unix.OPOST
	to.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	to.Cflag &^= unix.CSIZE | unix.PARENB
	to.Cflag |= unix.CS8
	to.Cc[unix.VMIN], to.Cc[unix.VTIME] = 1, 0
	return to
}

// IsTerminal reports whether a descriptor refers to a terminal.
func IsTerminal(fd int) bool {
	_, err := modes(fd)
	return err == nil
}

// WasTerminal reports whether a descriptor refers to a terminal, even after a hangup.
func WasTerminal(fd int) bool {
	_, err := modes(fd)
	return err == nil || err == unix.EIO
}

func modes(fd int) (*unix.Termios, error) { return unix.IoctlGetTermios(fd, getModes) }

func setModes(fd int, m *unix.Termios) error { return unix.IoctlSetTermios(fd, setModesNow, m) }
