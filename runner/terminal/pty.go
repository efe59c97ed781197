// Package terminal is about the terminals of a run: the one that we were started in, and with --pty one of the
// target's own.
//
// It knows nothing of runs.
package terminal

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// PTY is a terminal of the target's own, and the relay between that and what we were started with: what is written on
// it goes to our standard output, what comes on our standard input can be read from it.
//
// Each of the processes that lead a run has one, on the same pair of descriptors; one of them relays. Both keep the
// target's side open, so that the relay ends when they want it to and not whenever nobody has that side open.
//
// All methods may be called on a nil *PTY, which is none.
type PTY struct {
	master int
	ours   int // the group that our terminal was given to
	log    *slog.Logger

	begin   chan struct{} // closed: relay
	ended   chan struct{} // closed: nothing will be written on the terminal any more
	broken  chan struct{} // closed: nobody reads our output any more
	wake    [2]int        // a pipe: a byte wakes who waits for input
	busy    atomic.Bool   // something may have been read and not written yet
	written atomic.Int64  // bytes of output

	mu      sync.Mutex
	slave   int           // -1: closed
	saved   *unix.Termios // modes of our terminal before we changed them
	begun   bool
	front   bool  // when it was last looked, we were in the foreground
	input   bool  // what comes on standard input is relayed
	paused  bool  // we are being stopped
	over    bool  // our terminal is to be left alone, and nobody waits for input
	endedAt int64 // written, when Finish was called first; -1: it was not
}

// OpenPTY makes a terminal for the target. Nothing is relayed before Begin, but all threads that the relay needs are there.
// It has the modes and the size of ours, as far as there is one.
func OpenPTY(log *slog.Logger) (*PTY, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("a pseudo-terminal: %w", err)
	}
	defer master.Close()
	defer slave.Close()
	p := newPTY(unix.Getpgrp(), log)
	for _, d := range []struct {
		from *os.File
		to   *int
		wait bool
	}{{master, &p.master, false}, {slave, &p.slave, true}} {
		// Descriptors that the Go runtime knows nothing of: it would poll them.
		if *d.to, err = unix.FcntlInt(d.from.Fd(), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return nil, fmt.Errorf("a pseudo-terminal: %w", err)
		}
		if err := unix.SetNonblock(*d.to, !d.wait); err != nil {
			return nil, fmt.Errorf("a pseudo-terminal: %w", err)
		}
	}
	p.setUp()
	return p, p.start()
}

// InheritPTY is the PTY of who was started with the descriptors of Inheritance; front is who started it.
func InheritPTY(text string, front int, log *slog.Logger) (*PTY, error) {
	if text == "" {
		return nil, nil
	}
	group, _ := unix.Getpgid(front)
	p := newPTY(group, log)
	if _, err := fmt.Sscanf(text, "%d,%d", &p.master, &p.slave); err != nil {
		return nil, fmt.Errorf("the pseudo-terminal %q: %w", text, err)
	}
	unix.CloseOnExec(p.master)
	unix.CloseOnExec(p.slave)
	if p.foreground() {
		p.saved, _ = modes(0)
	}
	return p, p.start()
}

// Inheritance is what Inherit wants to be told, and the descriptors.
func (p *PTY) Inheritance() (text string, fds []int) {
	if p == nil {
		return "", nil
	}
	return strconv.Itoa(p.master) + "," + strconv.Itoa(p.slave), []int{p.master, p.slave}
}

func newPTY(group int, log *slog.Logger) *PTY {
	return &PTY{
		ours: group, log: log, endedAt: -1,
		begin: make(chan struct{}), ended: make(chan struct{}), broken: make(chan struct{}),
	}
}

// Slave is the target's side.
func (p *PTY) Slave() int { return p.slave }

// Broken is closed when whoever read our output has gone.
func (p *PTY) Broken() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.broken
}

// setUp gives the target's terminal modes and a size. Without a terminal of ours there is nobody who would want to see
// an echo.
func (p *PTY) setUp() {
	if m, err := modes(0); err != nil {
		if m, err = modes(p.slave); err == nil {
			m.Lflag &^= unix.ECHO
			_ = setModes(p.slave, m)
		}
	} else if p.foreground() { // else they are somebody else's
		_ = setModes(p.slave, m)
	}
	if !p.Resize() {
		size := unix.Winsize{Row: lines("LINES", 24), Col: lines("COLUMNS", 80)}
		_ = unix.IoctlSetWinsize(p.master, unix.TIOCSWINSZ, &size)
	}
}

// lines reads a size that a shell has told us.
func lines(name string, otherwise uint16) uint16 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 16); err == nil && n > 0 {
		return uint16(n)
	}
	return otherwise
}

// Resize gives the target's terminal the size of ours. It tells whether that was another one; then the kernel has said
// so to who is in its foreground.
func (p *PTY) Resize() bool {
	if p == nil {
		return false
	}
	for fd := range 3 {
		size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err != nil || size.Row == 0 && size.Col == 0 {
			continue
		}
		was, err := unix.IoctlGetWinsize(p.master, unix.TIOCGWINSZ)
		if err == nil && *was == *size {
			return false
		}
		return unix.IoctlSetWinsize(p.master, unix.TIOCSWINSZ, size) == nil
	}
	return false
}

// Begin begins to relay; input says whether also what comes on standard input. Our terminal is raw from now on, as long
// as we are in its foreground.
func (p *PTY) Begin(input bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun {
		p.begun, p.input = true, input
		p.takeTerminal()
		close(p.begin)
	}
}

// Heard tells of a signal that may mean that our terminal is another one now, or ours again.
func (p *PTY) Heard(sig syscall.Signal) {
	if p == nil || sig != unix.SIGCONT {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = false
	if p.begun {
		p.takeTerminal()
	}
	p.nudge()
}

// Pause gives our terminal its modes back, because we are going to be stopped. SIGCONT ends it.
func (p *PTY) Pause() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = true
	p.giveBack()
}

// Restore gives our terminal its modes back for good.
func (p *PTY) Restore() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.giveBack()
}

// takeTerminal makes our terminal raw if it is for us to do so.
func (p *PTY) takeTerminal() {
	if !p.input || p.paused || p.over || !p.foreground() {
		return
	}
	was, err := modes(0)
	if err != nil {
		return
	}
	p.front = true
	if p.saved == nil || *was != raw(p.saved) {
		p.saved = was
	}
	to := raw(was)
	withoutTTOU(func() { _ = setModes(0, &to) })
}

// giveBack sets the modes back, unless somebody else has set others meanwhile.
func (p *PTY) giveBack() {
	if p.saved == nil {
		return
	}
	if now, err := modes(0); err == nil && *now == raw(p.saved) {
		withoutTTOU(func() { _ = setModes(0, p.saved) })
	}
}

// foreground tells whether our terminal listens to us. Where it is not the controlling one there is no background.
func (p *PTY) foreground() bool {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err != nil || group == p.ours
}

// raw is modes in which a terminal hands on what is typed and shows what is written, and does nothing besides.
func raw(m *unix.Termios) unix.Termios {
	to := *m
	to.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	to.Oflag &^= unix.OPOST
	to.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	to.Cflag &^= unix.CSIZE | unix.PARENB
	to.Cflag |= unix.CS8
	to.Cc[unix.VMIN], to.Cc[unix.VTIME] = 1, 0
	return to
}

// IsOne tells whether a descriptor is a terminal.
func IsTerminal(fd int) bool {
	_, err := modes(fd)
	return err == nil
}

func modes(fd int) (*unix.Termios, error) { return unix.IoctlGetTermios(fd, getModes) }

func setModes(fd int, m *unix.Termios) error { return unix.IoctlSetTermios(fd, setModesNow, m) }

// Finish relays what has been written by now, gives our terminal its modes back, and closes done. It gives up when the
// reader of our output takes nothing for as long as stall, or has not taken it all after limit; 0 is for ever. The relay
// itself goes on.
func (p *PTY) Finish(stall, limit time.Duration) (done <-chan struct{}) {
	closed := make(chan struct{})
	p.mu.Lock()
	p.over = true
	if p.endedAt < 0 {
		p.endedAt = p.written.Load()
	}
	p.mu.Unlock()
	p.CloseSlave()
	p.nudge()
	go func() {
		defer close(closed)
		defer p.Restore()
		p.drain(stall, limit)
	}()
	return closed
}

// CloseSlave closes the target's side in a process that does not relay.
func (p *PTY) CloseSlave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slave >= 0 {
		unix.Close(p.slave)
		p.slave = -1
	}
}

// holds is more than a pseudo-terminal and we can hold: when that much has come, all from before it has.
const holds = 256 << 10

// lull is how long nothing comes when all has come that was written by somebody who has ended. (Linux would tell at once.)
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
		case p.isEnded(), before-p.endedAt > holds:
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

// idle tells whether nothing is on its way. Who relays takes nothing without being busy first.
func (p *PTY) idle() bool {
	return !p.busy.Load() && !ready(p.master, unix.POLLIN) && !p.busy.Load()
}
