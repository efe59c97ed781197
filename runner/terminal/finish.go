package terminal

import (
	"time"

	"golang.org/x/sys/unix"
)

// Finish ends the input and closes the slave in this process. It closes done when the output so far has been written,
// or when its reader takes nothing for stall, or has not taken all of it after limit; 0 is no limit. By then the modes
// of graceful's terminal are restored. The output thread itself goes on.
func (p *PTY) Finish(stall, limit time.Duration) (done <-chan struct{}) {
	closed := make(chan struct{})
	p.mu.Lock()
	p.over = true
	if p.endedAt < 0 {
		p.endedAt = p.written.Load()
	}
	p.mu.Unlock()
	p.CloseSlave()
	p.wakeInput()
	go func() {
		defer close(closed)
		defer p.Restore()
		p.drain(stall, limit)
	}()
	return closed
}

// capacity, in bytes, is more than a pseudo-terminal and the output thread hold together. After that much output, all
// output from before Finish has been written.
const capacity = 256 << 10

// lull is how long the relay must be idle before drain believes that a process which has ended left no more output.
// (Linux shows it at once.)
const lull = 20 * time.Millisecond

func (p *PTY) drain(stall, limit time.Duration) {
	begin := time.Now()
	moved, quiet, before := begin, begin, p.written.Load()
	for {
		now := time.Now()
		if n := p.written.Load(); n != before {
			moved, before = now, n
		}
		switch {
		case p.isEnded(), before-p.endedAt > capacity:
			return
		case !p.idle():
			quiet = time.Now()
		case now.Sub(quiet) >= lull:
			return
		}
		if stall > 0 && now.Sub(moved) >= stall || limit > 0 && now.Sub(begin) >= limit {
			return
		}
		select {
		case <-p.ended:
		case <-time.After(lull / 10):
		}
	}
}

func (p *PTY) isEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// idle reports whether no output is on its way. The output thread sets busy before it reads.
func (p *PTY) idle() bool {
	return !p.busy.Load() && !ready(p.master, unix.POLLIN) && !p.busy.Load()
}
