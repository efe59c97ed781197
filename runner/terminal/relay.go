package terminal

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// start starts the two threads of the relay, one for each direction. They wait for Begin. The caller calls start before
// the target starts, because creating a thread later may fail. Another process can block each thread for any time. So
// graceful never waits for a thread without a limit or a signal that ends the wait.
func (p *PTY) start() error {
	if err := unix.Pipe(p.wakePipe[:]); err != nil {
		return err
	}
	for _, fd := range p.wakePipe {
		unix.CloseOnExec(fd)
		_ = unix.SetNonblock(fd, true)
	}
	running := make(chan bool)
	for _, relay := range []func(){p.relayOutput, p.relayInput} {
		go func() {
			runtime.LockOSThread()
			neverSuspend()
			running <- true
			<-p.beginning
			relay()
		}()
		<-running
	}
	return nil
}

// relayOutput reads until there is no more output or the buffer is full. Then it writes all of that output, and repeats
// until every slave is closed. After a failed write it discards the output, so that the target is not blocked.
func (p *PTY) relayOutput() {
	defer close(p.ended)
	buffer := make([]byte, 64<<10)
	have, lost := 0, false
	for {
		p.busy.Store(true)
		n, err := unix.Read(p.master, buffer[have:])
		have += max(n, 0)
		if n > 0 && have < len(buffer) {
			continue
		}
		if have > 0 {
			lost = lost || !p.write(buffer[:have])
			p.writtenBytes.Add(int64(have))
			have = 0
			continue
		}
		p.busy.Store(false)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			await(p.master, unix.POLLIN)
		default: // EIO, or end of file on other systems: all slaves are closed
			return
		}
	}
}

// write writes to standard output. It returns false if no later output can be written.
func (p *PTY) write(data []byte) bool {
	err := writeAll(1, data, func() bool { // another process has set O_NONBLOCK on the shared open file
		await(1, unix.POLLOUT)
		return true
	})
	switch err {
	case nil:
		return true
	case unix.EPIPE:
		close(p.broken)
	default:
		p.log.Warn("writing the target's output", "err", err, "hint", "the rest of it is lost")
	}
	return false
}

// The shortest and the longest interval, in milliseconds, at which the input thread checks for changes that cause no
// event.
const firstPoll, lastPoll = 5, 200

// relayInput relays standard input, and the end of standard input.
func (p *PTY) relayInput() {
	terminal := IsTerminal(0)
	buffer := make([]byte, 4<<10)
	for {
		in, limit := unix.PollFd{Fd: -1}, lastPoll
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
		case terminal: // after a hangup
			return
		default:
			p.endInput()
			return
		}
	}
}

// wait waits for a descriptor, for wakeInput, or until limit is over. limit is in milliseconds, and a negative limit is
// infinite. wait returns false if the input thread must end.
func (p *PTY) wait(fd *unix.PollFd, limit int) (goOn bool) {
	fds := []unix.PollFd{*fd, {Fd: int32(p.wakePipe[0]), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds, limit)
	*fd = fds[0]
	if fds[1].Revents != 0 {
		var some [16]byte
		_, _ = unix.Read(p.wakePipe[0], some[:])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.over
}

// wakeInput makes the input thread check its state.
func (p *PTY) wakeInput() { _, _ = unix.Write(p.wakePipe[1], []byte{0}) }

// mayRead reports whether standard input is for the target now. terminal means that standard input is a terminal. While
// graceful is in the background, the input of the terminal is for another job. A running job gets no signal when the
// shell puts it into the foreground, so mayRead then makes the terminal raw.
func (p *PTY) mayRead(terminal bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.inputRelayed || p.paused {
		return false
	}
	was := p.inFront
	p.inFront = !terminal || p.inForeground()
	if terminal && p.inFront && !was {
		p.makeRaw()
	}
	return p.inFront
}

// typeIn writes data to the target's terminal as input. It returns false if the input thread must end.
func (p *PTY) typeIn(data []byte) bool {
	return writeAll(p.master, data, func() bool {
		return p.wait(&unix.PollFd{Fd: int32(p.master), Events: unix.POLLOUT}, -1)
	}) == nil
}

// endInput makes later reads from the target's terminal return end of file, as reads from a pipe do. Whenever all input
// has been read, typeEOF types the end-of-file character. endInput returns when the input thread must end.
func (p *PTY) endInput() {
	for pause := firstPoll; ; pause = min(2*pause, lastPoll) {
		if p.typeEOF() {
			pause = firstPoll
		}
		if !p.wait(&unix.PollFd{Fd: -1}, pause) {
			return
		}
	}
}

// typeEOF types the end-of-file character if all input has been read. It returns true if it has typed the character in
// canonical mode, in which the character makes a read return end of file. Line editors (readline(3)) switch canonical
// mode off, but leave signals on, and interpret the character themselves. If a target has switched both off, typeEOF
// types nothing, because the target would take the character for data.
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

// writeAll writes data. It calls wait to wait until the descriptor accepts more. If wait returns false, writeAll
// returns EAGAIN.
func writeAll(fd int, data []byte, wait func() bool) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		switch {
		case err == nil:
			data = data[n:]
		case err == unix.EAGAIN && wait():
		case err != unix.EINTR:
			return err
		}
	}
	return nil
}

// ready reports, without waiting, whether one of the poll(2) events what is pending on a descriptor.
func ready(fd int, what int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: what}}
	_, _ = unix.Poll(fds, 0)
	return fds[0].Revents&what != 0
}

// await waits until one of the poll(2) events what, an error or a hangup is pending on a descriptor. A signal may end
// the wait early, so the caller tries again.
func await(fd int, what int16) {
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: what}}, -1)
}

// Finish ends the input and closes the slave in this process. When all output so far has been written, when the reader
// has read nothing for the time stall, or when the time limit is over, Finish restores the modes of graceful's terminal
// and closes done. A stall or limit of 0 means no such limit. The output thread continues.
func (p *PTY) Finish(stall, limit time.Duration) (done <-chan struct{}) {
	closed := make(chan struct{})
	p.locked(func() {
		p.over = true
		if p.writtenAtFinish < 0 {
			p.writtenAtFinish = p.writtenBytes.Load()
		}
	})
	p.CloseSlave()
	p.wakeInput()
	go func() {
		defer close(closed)
		defer p.Restore()
		p.drain(stall, limit)
	}()
	return closed
}

// capacity is more than a pseudo-terminal and the output thread can hold together, in bytes. When more than capacity
// bytes have been written since Finish, all output from before Finish has been written.
const capacity = 256 << 10

// lull is the time for which the relay must be idle before drain assumes that an ended process has left no more output.
// (Linux shows the output at once.)
const lull = 20 * time.Millisecond

func (p *PTY) drain(stall, limit time.Duration) {
	begin := time.Now()
	moved, quiet, before := begin, begin, p.writtenBytes.Load()
	for {
		now := time.Now()
		if n := p.writtenBytes.Load(); n != before {
			moved, before = now, n
		}
		if !p.idle() {
			quiet = time.Now()
		}
		if before-p.writtenAtFinish > capacity || now.Sub(quiet) >= lull ||
			stall > 0 && now.Sub(moved) >= stall || limit > 0 && now.Sub(begin) >= limit {
			return
		}
		select {
		case <-p.ended:
			return
		case <-time.After(lull / 10):
		}
	}
}

// idle reports whether the relay contains no output. It checks busy a second time, because the output thread may read
// the last output after the first check. The thread sets busy before it reads.
func (p *PTY) idle() bool {
	return !p.busy.Load() && !ready(p.master, unix.POLLIN) && !p.busy.Load()
}
