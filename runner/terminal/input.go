package terminal

import "golang.org/x/sys/unix"

// How often the input thread looks at what no event announces, in milliseconds.
const firstLook, lastLook = 5, 200

// relayInput relays standard input, and its end of file.
func (p *PTY) relayInput() {
	terminal := IsTerminal(0)
	buffer := make([]byte, 4<<10)
	for {
		in, limit := unix.PollFd{Fd: -1}, lastLook
		if p.mayRead(terminal) {
			in, limit = unix.PollFd{Fd: 0, Events: unix.POLLIN}, -1
		}
		if !p.wait(&in, limit) {
			return
		}
		if in.Revents == 0 || !p.mayRead(terminal) {
			continue
		}
		n, err := unix.Read(0, buffer)
		switch {
		case n > 0:
			if !p.typeIn(buffer[:n]) {
				return
			}
		case err == unix.EINTR, err == unix.EAGAIN:
		case terminal: // it was hung up
			return
		default:
			p.endInput()
			return
		}
	}
}

// wait waits until a descriptor is ready, limit (in milliseconds) is over, or wakeInput was called. A negative limit is
// none. It reports whether the input thread is to go on.
func (p *PTY) wait(fd *unix.PollFd, limit int) (goOn bool) {
	fds := []unix.PollFd{*fd, {Fd: int32(p.wake[0]), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds, limit)
	*fd = fds[0]
	if fds[1].Revents != 0 {
		var some [16]byte
		_, _ = unix.Read(p.wake[0], some[:])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.over
}

// wakeInput makes the input thread check again what it may do.
func (p *PTY) wakeInput() { _, _ = unix.Write(p.wake[1], []byte{0}) }

// mayRead reports whether standard input is for the target now. While graceful is in the background, its terminal's
// input is for another job. No signal tells a running job that the shell has put it into the foreground.
func (p *PTY) mayRead(terminal bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.input || p.paused {
		return false
	}
	was := p.front
	p.front = !terminal || p.inForeground()
	if terminal && p.front && !was {
		p.makeRaw()
	}
	return p.front
}

// typeIn writes data to the target's terminal. It reports whether the input thread is to go on.
func (p *PTY) typeIn(data []byte) bool {
	return writeAll(p.master, data, func() bool {
		return p.wait(&unix.PollFd{Fd: int32(p.master), Events: unix.POLLOUT}, -1)
	}) == nil
}

// endInput makes every later read from the target's terminal return end of file, as from a pipe: it types the
// end-of-file character whenever all input has been read.
func (p *PTY) endInput() {
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		if p.typeEOF() {
			pause = firstLook
		}
		if !p.wait(&unix.PollFd{Fd: -1}, pause) {
			return
		}
	}
}

// typeEOF types the end-of-file character if no input is unread. It reports whether that makes a read return end of
// file, which is so in canonical mode. Line editors (readline(3)) switch canonical mode off and leave signals on; they
// interpret the character themselves. For a target that has switched both off the character would be data.
func (p *PTY) typeEOF() (canonical bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slave < 0 || ready(p.slave, unix.POLLIN) {
		return false
	}
	m, err := modes(p.slave)
	if err != nil || m.Lflag&(unix.ICANON|unix.ISIG) == 0 || m.Cc[unix.VEOF] == 0 {
		return false
	}
	_, _ = unix.Write(p.master, []byte{m.Cc[unix.VEOF]})
	return m.Lflag&unix.ICANON != 0
}
