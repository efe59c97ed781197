package terminal

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// The relay is two threads, one for each direction. Either may block for as long as another process wants; graceful
// waits for neither without a limit. Both exist before the target is started: later, a thread might be impossible to
// create.

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
			neverSuspend()
			running <- true
			<-p.begin
			relay()
		}()
		<-running
	}
	return nil
}

// relayOutput reads until no more output is there or the buffer is full, then writes all of it, and begins again.
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
		default: // EIO, or on other systems end of file: every slave is closed
			return
		}
	}
}

// write writes to standard output. It reports whether later output can be written, too.
func (p *PTY) write(data []byte) bool {
	for len(data) > 0 {
		n, err := unix.Write(1, data)
		switch err {
		case nil:
			data = data[n:]
		case unix.EINTR:
		case unix.EAGAIN: // a process that shares the open file has set O_NONBLOCK
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

// ready reports whether a descriptor is ready now.
func ready(fd int, what int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: what}}
	_, _ = unix.Poll(fds, 0)
	return fds[0].Revents&what != 0
}

// poll waits until a descriptor is ready.
func poll(fd int, what int16) error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: what}}, -1)
	return err
}
