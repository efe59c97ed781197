// Package listen receives the signals that are sent to this process. Package forward decides what each one means.
package listen

import (
	"fmt"
	"math/bits"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/forward"
)

// Listener receives SIGCHLD and the signals that forward.Deliverable lists. If a signal arrives twice before it is
// taken, Listener delivers it once, as the kernel does with pending standard signals. No signal is lost otherwise.
type Listener struct {
	// Signals delivers the signals that forward.Deliverable lists.
	Signals <-chan syscall.Signal
	// Children delivers a value when a child has changed its state since the last value was taken.
	Children <-chan struct{}

	ignored []syscall.Signal // signals that were ignored when graceful was started, except those that it needs
	closed  chan struct{}
}

// set is a set of signals. Bit n-1 stands for signal n.
type set uint64

func setOf(sig syscall.Signal) set { return 1 << (sig - 1) }

// arrived is the set of signals that were caught and not taken yet. woken receives a value when a signal is added. Both
// are global, because a process has only one set of signal handlers.
var (
	arrived uint64 // atomic
	woken   = make(chan struct{}, 1)
)

// wake notifies deliver of new signals in arrived.
func wake() {
	select {
	case woken <- struct{}{}:
	default: // deliver has not yet taken the last value
	}
}

// Start begins to listen. ignored lists the signals that were ignored when graceful was started. Those that graceful
// does not need stay ignored until CatchIgnored, because a child inherits the ignored signals at its fork, unless
// graceful starts it with an explicit set.
//
// graceful calls Start before it starts any process. Otherwise another process could read the target's first output,
// and send a signal that graceful does not catch yet.
func Start(ignored []syscall.Signal) (*Listener, error) {
	if err := prepare(); err != nil {
		return nil, fmt.Errorf("listening to signals: %w", err)
	}
	out, children := make(chan syscall.Signal), make(chan struct{}, 1)
	l := &Listener{
		Signals: out, Children: children, closed: make(chan struct{}),
		ignored: slices.DeleteFunc(slices.Clone(ignored), needed),
	}
	catch(unix.SIGCHLD)
	for _, sig := range forward.Deliverable() {
		if !slices.Contains(l.ignored, sig) {
			catch(sig)
		}
	}
	l.ignore()
	go l.deliver(out, children)
	return l, nil
}

// deliver sends each signal that has arrived to out, or for SIGCHLD a value to children, until l.closed is closed.
func (l *Listener) deliver(out chan<- syscall.Signal, children chan<- struct{}) {
	var waiting set
	for {
		next := waiting.first()
		send := out
		if next == 0 {
			send = nil // never ready
		}
		select {
		case <-l.closed:
			return
		case send <- next:
			waiting &^= setOf(next)
		case <-woken:
			waiting |= take()
			if waiting&setOf(unix.SIGCONT) != 0 { // SIGCONT must come last: see set.first
				time.Sleep(handOver)
				waiting |= take()
			}
			if waiting&setOf(unix.SIGCHLD) != 0 {
				waiting &^= setOf(unix.SIGCHLD)
				select {
				case children <- struct{}{}:
				default: // an earlier value was not taken yet
				}
			}
		}
	}
}

func take() set { return set(atomic.SwapUint64(&arrived, 0)) }

// Return puts signals back that were taken from Signals too early. Signals delivers them again.
func (l *Listener) Return(signals []syscall.Signal) {
	for _, sig := range signals {
		atomic.OrUint64(&arrived, uint64(setOf(sig)))
	}
	wake()
}

// handOver is the time that deliver allows from the moment when a handler in another thread catches a signal until
// deliver sees that signal.
const handOver = 2 * time.Millisecond

// first returns the signal to deliver next, or 0 if s is empty: the lowest number, but SIGCONT last. If SIGTSTP came
// after SIGCONT, the process would stay suspended and would not handle SIGTERM.
func (s set) first() syscall.Signal {
	if others := s &^ setOf(unix.SIGCONT); others != 0 {
		s = others
	}
	if s == 0 {
		return 0
	}
	return syscall.Signal(bits.TrailingZeros64(uint64(s)) + 1)
}

// needed reports whether graceful must not ignore a signal even for a moment. A child that ends while SIGCHLD is
// ignored leaves no status behind, and the Go runtime uses SIGURG, faults and others.
func needed(sig syscall.Signal) bool {
	return sig == unix.SIGCHLD || sig == unix.SIGURG || forward.MeaningOf(sig) == forward.Uncatchable
}

// CatchIgnored catches those signals in l.ignored that mean Pass or Stop by default. The others stay ignored, for
// instance those of job control.
func (l *Listener) CatchIgnored() {
	for _, sig := range l.ignored {
		if m := forward.MeaningOf(sig); m == forward.Pass || m == forward.Stop {
			catch(sig)
		}
	}
}

// CatchAgain catches signals whose handler was replaced after Start. Ignored signals stay ignored.
func (l *Listener) CatchAgain(signals []syscall.Signal) {
	for _, sig := range signals {
		if slices.Contains(forward.Deliverable(), sig) && !slices.Contains(l.ignored, sig) {
			catch(sig)
		}
	}
}

// Ignoring calls f, which starts a process, while all signals in l.ignored are ignored, so that the process inherits
// that. Then it calls CatchIgnored.
func (l *Listener) Ignoring(f func()) {
	l.ignore()
	defer l.CatchIgnored()
	f()
}

func (l *Listener) ignore() {
	for _, sig := range l.ignored {
		ignore(sig)
	}
}

// Restart undoes CatchIgnored and IgnoreTTOU, for another run in the same process.
func (l *Listener) Restart() {
	if !slices.Contains(l.ignored, unix.SIGTTOU) {
		catch(unix.SIGTTOU)
	}
	l.ignore()
}

// IgnoreTTOU makes this process and its later children ignore SIGTTOU. They may then write to a terminal from its
// background without being suspended (TOSTOP in termios(3)).
func (l *Listener) IgnoreTTOU() { ignore(unix.SIGTTOU) }
