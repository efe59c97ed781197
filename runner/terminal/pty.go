package terminal

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// PTY is a terminal of the target. It also relays data between that terminal and graceful's standard descriptors.
// Output on the terminal goes to standard output, and the target can read standard input from the terminal.
//
// PTY keeps the slave open until Finish. Otherwise the relay would end as soon as no process of the target has the
// slave open. A successor of graceful inherits the master and the slave.
//
// A nil *PTY means that there is no terminal. Resize, Finish, Save and Slave need a non-nil one.
type PTY struct {
	master int
	group  int // graceful's process group, which the shell has started
	log    *slog.Logger

	beginning    chan struct{} // closed when relaying begins
	ended        chan struct{} // closed when no more output can come, because every slave is closed
	broken       chan struct{} // closed when a write has found that standard output has no reader
	wakePipe     [2]int        // a pipe; a byte in it wakes the input thread
	busy         atomic.Bool   // the output thread may hold unwritten bytes
	writtenBytes atomic.Int64  // bytes of output that were written or lost

	mu              sync.Mutex
	slave           int           // -1: closed
	savedModes      *unix.Termios // modes of graceful's terminal that restoreModes sets; nil: none
	begun           bool          // Begin was called
	inFront         bool          // graceful was in the foreground at the last check
	inputRelayed    bool          // standard input is relayed
	paused          bool          // graceful is suspended, or about to be
	over            bool          // the input thread ends, and graceful's terminal is not changed any longer
	writtenAtFinish int64         // value of writtenBytes at the first Finish; -1: none yet
}

// OpenPTY makes a terminal for the target, with the modes and the size that setUp chooses. OpenPTY starts the threads
// of the relay, which wait for Begin.
func OpenPTY(log *slog.Logger) (*PTY, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("a pseudo-terminal: %w", err)
	}
	defer master.Close()
	defer slave.Close()
	p := newPTY(unix.Getpgrp(), log)
	for _, d := range []struct {
		from     *os.File
		to       *int
		nonblock bool
	}{{master, &p.master, true}, {slave, &p.slave, false}} {
		// Duplicate the descriptor to get a plain one. The Go runtime polls the descriptor of an os.File.
		if *d.to, err = unix.FcntlInt(d.from.Fd(), unix.F_DUPFD_CLOEXEC, 3); err == nil {
			err = unix.SetNonblock(*d.to, d.nonblock)
		}
		if err != nil {
			return nil, fmt.Errorf("a pseudo-terminal: %w", err)
		}
	}
	p.setUp()
	if err := p.start(); err != nil {
		return nil, fmt.Errorf("relaying a pseudo-terminal: %w", err)
	}
	return p, nil
}

// InheritPTY returns the PTY of a killed graceful. text and the descriptors come from Inheritance, and kept comes from
// Save. If text is "", InheritPTY returns nil.
func InheritPTY(text string, kept json.RawMessage, log *slog.Logger) (*PTY, error) {
	if text == "" {
		return nil, nil
	}
	var s saved
	_ = json.Unmarshal(kept, &s)
	p := newPTY(s.Group, log)
	if _, err := fmt.Sscanf(text, "%d,%d", &p.master, &p.slave); err != nil {
		return nil, fmt.Errorf("the pseudo-terminal %q: %w", text, err)
	}
	unix.CloseOnExec(p.master)
	unix.CloseOnExec(p.slave)
	p.savedModes = s.Modes
	return p, p.start()
}

// Save returns the data for InheritPTY.
func (p *PTY) Save() (json.RawMessage, error) {
	s := saved{Group: p.group}
	if p.inForeground() { // otherwise another job has set the modes
		s.Modes, _ = modes(0)
	}
	return json.Marshal(s)
}

// Inheritance returns a text for InheritPTY, and the descriptors that must have the same numbers in a successor.
func (p *PTY) Inheritance() (text string, fds []int) {
	if p == nil {
		return "", nil
	}
	return strconv.Itoa(p.master) + "," + strconv.Itoa(p.slave), []int{p.master, p.slave}
}

func newPTY(group int, log *slog.Logger) *PTY {
	return &PTY{
		group: group, log: log, writtenAtFinish: -1,
		beginning: make(chan struct{}), ended: make(chan struct{}), broken: make(chan struct{}),
	}
}

// Slave returns the descriptor of the target's side.
func (p *PTY) Slave() int { return p.slave }

// Broken returns a channel that is closed when a write has found that standard output has no reader. For a nil *PTY it
// returns nil.
func (p *PTY) Broken() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.broken
}

// CloseSlave closes the target's side in this process.
func (p *PTY) CloseSlave() {
	p.locked(func() {
		if p.slave >= 0 {
			unix.Close(p.slave)
			p.slave = -1
		}
	})
}

// locked calls f while it holds the lock. It does nothing for a nil PTY.
func (p *PTY) locked(f func()) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// setUp sets the modes and the size of the target's terminal. If standard input is a terminal with graceful in its
// foreground, setUp copies the modes of that terminal. If standard input is not a terminal, echo is off, because no
// person types. If none of graceful's standard descriptors has a size, LINES and COLUMNS determine the size, or it is
// 24 lines of 80 columns.
func (p *PTY) setUp() {
	if m, err := modes(0); err != nil {
		if m, err = modes(p.slave); err == nil {
			m.Lflag &^= unix.ECHO
			_ = setModes(p.slave, m)
		}
	} else if p.inForeground() { // otherwise another job has set these modes
		_ = setModes(p.slave, m)
	}
	if !p.Resize() {
		size := unix.Winsize{Row: sizeFrom("LINES", 24), Col: sizeFrom("COLUMNS", 80)}
		_ = unix.IoctlSetWinsize(p.master, unix.TIOCSWINSZ, &size)
	}
}

// sizeFrom returns the number in an environment variable, or byDefault if that is not a number from 1 to 65535.
func sizeFrom(variable string, byDefault uint16) uint16 {
	if n, err := strconv.ParseUint(os.Getenv(variable), 10, 16); err == nil && n > 0 {
		return uint16(n)
	}
	return byDefault
}

// Resize sets the size of the target's terminal to the size of graceful's terminal. It reports whether the size has
// changed. After a change, the kernel sends SIGWINCH to the foreground group of the target's terminal.
func (p *PTY) Resize() bool {
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
