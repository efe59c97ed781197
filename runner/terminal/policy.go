package terminal

import (
	"cmp"
	"slices"
	"syscall"
	"time"

	"graceful/forward"

	"golang.org/x/sys/unix"
)

// Policy is a terminal of the target, with the decisions about it: how long graceful waits for the reader of the
// output, and which signals the terminal sends. The zero Policy is for a target without its own terminal. Cleanup
// begins after the rest of the output has been relayed.
type Policy struct {
	*PTY // nil: the target has no terminal of its own

	relay    relay         // PTY; nil: none
	stall    time.Duration // how long the reader may read nothing before cleanup begins without it
	limit    time.Duration // how long the reader may take for the whole rest
	stopping bool          // the run is being stopped: Deliver does not wait
}

// relay is the part of *PTY that Policy needs.
type relay interface {
	Resize() bool
	Heard(syscall.Signal)
	CloseSlave()
	Finish(stall, limit time.Duration) (done <-chan struct{})
}

// Limits for the reader of the output if the run has no deadline.
const (
	stallLimit   = time.Second
	deliverLimit = 10 * time.Second
)

// NewPolicy returns the policy for pty, which may be nil. patience replaces both limits for the reader of the output; 0
// means the defaults.
func NewPolicy(pty *PTY, patience time.Duration) Policy {
	patience = max(patience, 0)
	p := Policy{PTY: pty, stall: cmp.Or(patience, stallLimit), limit: cmp.Or(patience, deliverLimit)}
	if pty != nil {
		p.relay = pty
	}
	return p
}

// Signal sends a signal to the target by send, unless the terminal sends it: a change of size makes the kernel send
// SIGWINCH to the terminal's foreground group. Signal replaces a suspend signal by SIGSTOP. The target's group is an
// orphaned process group, which no other signal suspends (setpgid(2)).
func (p *Policy) Signal(sig syscall.Signal, send func(syscall.Signal) error) error {
	switch {
	case p.relay == nil:
	case sig == unix.SIGWINCH && p.relay.Resize():
		return nil
	case sig == unix.SIGCONT:
		p.relay.Heard(sig)
		p.relay.Resize()
	case forward.MeaningOf(sig) == forward.Suspend:
		sig = unix.SIGSTOP
	}
	return send(sig)
}

// SignalAll sends signals by send, unless SIGWINCH is one of them and the terminal sends it.
func (p *Policy) SignalAll(sigs []syscall.Signal, send func(...syscall.Signal)) {
	if p.relay == nil || !slices.Contains(sigs, unix.SIGWINCH) || !p.relay.Resize() {
		send(sigs...)
	}
}

// RelayRest relays the rest of the target's output. relayed is closed when all of it is written, or when the reader has
// exceeded a limit.
func (p *Policy) RelayRest(stopping bool) (relayed <-chan struct{}) {
	if p.relay == nil { // graceful recover finishes a run that another process began
		done := make(chan struct{})
		close(done)
		return done
	}
	p.stopping = p.stopping || stopping
	return p.relay.Finish(p.stall, p.limit)
}

// Deliver waits, after the run, until a slow reader has read all output. A stop signal ends the wait.
func (p *Policy) Deliver(signals <-chan syscall.Signal) {
	if p.relay == nil || p.stopping {
		return
	}
	delivered := p.relay.Finish(0, 0)
	for {
		select {
		case <-delivered:
			return
		case sig := <-signals:
			if forward.MeaningOf(sig) == forward.Stop {
				return
			}
		}
	}
}
