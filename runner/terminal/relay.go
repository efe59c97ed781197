package terminal

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// The relay is two threads, one for each direction, which may block for as long as others please; nobody waits for them
// without a limit. They are there before the target is started (see the runner's threads.go).

// start starts the threads.
func (p *PTY) start() error {
	if err := unix.Pipe(p.wake[:]); err != nil {
		return err
	}
	for _, fd := range p.wake {
		unix.CloseOnExec(fd)
		_ = unix.SetNonblock(fd, true)
	}
	running := make(chan bool)
	for _, relay := range []func(){p.relayOutput, p.relayInput} {
		go func() {
			runtime.LockOSThread()
			neverStopped()
			running <- true
			<-p.begin
			relay()
		}()
		<-running
	}
	return nil
}

// relayOutput takes what is there until there is no more, or no more room for it, and writes it.
func (p *PTY) relayOutput() {
	defer close(p.ended)
	buffer := make([]byte, 64<<10)
	have, lost := 0, false
	for {
		p.busy.Store(true)
		n, err := unix.Read(p.master, buffer[have:])
		if n > 0 {
			if have += n; have < len(buffer) {
				continue
			}
		}
		if have > 0 {
			if !lost {
				lost = !p.write(buffer[:have])
			}
			p.written.Add(int64(have))
			have = 0
			continue
		}
		p.busy.Store(false)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			_ = poll(p.master, unix.POLLIN)
		default: // EIO, or elsewhere an end of file: nobody has the target's side open
			return
		}
	}
}

// write tells whether there is anybody left to write for.
func (p *PTY) write(data []byte) bool {
	for len(data) > 0 {
		n, err := unix.Write(1, data)
		switch err {
		case nil:
			data = data[n:]
		case unix.EINTR:
		case unix.EAGAIN: // somebody who shares the descriptor has set O_NONBLOCK
			_ = poll(1, unix.POLLOUT)
		case unix.EPIPE:
			close(p.broken)
			return false
		default:
			p.log.Warn("writing the target's output", "err", err, "hint", "the rest of it is lost")
			return false
		}
	}
	return true
}

// relayInput hands on what comes, and its end.
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

// wait waits until a descriptor is ready, the time is over, or somebody has nudged us. It tells whether to go on.
func (p *PTY) wait(fd *unix.PollFd, limit time.Duration) (goOn bool) {
	fds := []unix.PollFd{*fd, {Fd: int32(p.wake[0]), Events: unix.POLLIN}}
	ms := -1
	if limit >= 0 {
		ms = int(limit.Milliseconds())
	}
	_, _ = unix.Poll(fds, ms)
	*fd = fds[0]
	if fds[1].Revents != 0 {
		var some [16]byte
		_, _ = unix.Read(p.wake[0], some[:])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.over
}

// nudge has relayInput look again what it may do.
func (p *PTY) nudge() { _, _ = unix.Write(p.wake[1], []byte{0}) }

// mayRead: what is typed while we are in the background is not for us. Nobody tells a job that runs when a shell puts it
// into the foreground.
func (p *PTY) mayRead(terminal bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.input || p.paused {
		return false
	}
	was := p.front
	p.front = !terminal || p.foreground()
	if terminal && p.front && !was {
		p.takeTerminal()
	}
	return p.front
}

// typeIn writes what the target can read. It tells whether to go on.
func (p *PTY) typeIn(data []byte) bool {
	for len(data) > 0 {
		n, err := unix.Write(p.master, data)
		switch err {
		case nil:
			data = data[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			if !p.wait(&unix.PollFd{Fd: int32(p.master), Events: unix.POLLOUT}, -1) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// The pace at which we look at what nobody tells us.
const (
	firstLook = 5 * time.Millisecond
	lastLook  = 200 * time.Millisecond
)

// endInput lets every read from now on find the end of a file, as with a pipe: whenever all that there was has been
// read, it types the character that stands for it.
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

// typeEOF tells whether the target was in need of an end of file and got it. In canonical mode that makes a read return.
// Line editors (readline(3)), which have that mode off and signals on, take the character itself for it. To
// who has switched off both, it would be data.
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

// ready tells whether a descriptor is, now.
func ready(fd int, what int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: what}}
	_, _ = unix.Poll(fds, 0)
	return fds[0].Revents&what != 0
}

func poll(fd int, what int16) error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: what}}, -1)
	return err
}
