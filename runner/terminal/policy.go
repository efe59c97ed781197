package terminal

import (
	"cmp"
	"slices"
	"syscall"
	"time"

	"graceful/forward"

	"golang.org/x/sys/unix"
)

// Policy is a terminal of the target's own together with the decisions about it: which process relays the rest of the
// target's output, how long that process waits for the reader of the output, and which signals the terminal sends by
// itself. The zero Policy is for a target without such a terminal.
//
// The front relays, so that no output is lost when the supervisor is killed. When the front is killed, the supervisor
// relays what the target writes from then on. Cleanup begins after the rest has been relayed.
type Policy struct {
	*PTY         // nil: the target has no terminal of its own
	Front *Front // nil: this process relays

	relay    relay         // PTY; nil: none
	stall    time.Duration // how long the reader may take nothing before cleanup begins without it
	limit    time.Duration // how long the reader may take for everything
	stopping bool          // the run is being stopped: Deliver does not wait
}

// Front is what the supervisor knows of the front, the process that relays.
type Front struct {
	Relay   func(stopping bool) error // asks the front to relay the rest
	Relayed <-chan struct{}           // closed: the front has relayed the rest
	Gone    <-chan struct{}           // closed: the front has ended
}

// relay is what Policy needs of a *PTY.
type relay interface {
	Resize() bool
	Heard(syscall.Signal)
	CloseSlave()
	Finish(stall, limit time.Duration) (done <-chan struct{})
}

// How long the reader of the output may take when the run has no deadline.
const (
	stallLimit   = time.Second
	deliverLimit = 10 * time.Second
)

// NewPolicy returns the policy for pty, which may be nil. patience replaces both limits on the reader of the output; 0
// keeps the defaults.
func NewPolicy(pty *PTY, patience time.Duration) Policy {
	patience = max(patience, 0)
	p := Policy{PTY: pty, stall: cmp.Or(patience, stallLimit), limit: cmp.Or(patience, deliverLimit)}
	if pty != nil {
		p.relay = pty
	}
	return p
}

// Signal sends a signal to the target by send, unless the terminal sends it: a change of size makes the kernel send
// SIGWINCH to the terminal's foreground group. A signal of job control becomes SIGSTOP: the target's group is an
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

// RelayRest has the rest of the target's output relayed: by the front if there is one, else by this process. relayed is
// closed when all of it is where it belongs, or when its reader has exceeded a limit.
func (p *Policy) RelayRest(stopping bool) (relayed <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		switch {
		case p.relay == nil: // also in graceful recover, which finishes the run of others
		case p.Front != nil && p.frontRelays(stopping):
		default:
			<-p.Relay(stopping)
		}
	}()
	return done
}

// Relay relays the rest of the target's output in this process.
func (p *Policy) Relay(stopping bool) (relayed <-chan struct{}) {
	p.stopping = p.stopping || stopping
	return p.relay.Finish(p.stall, p.limit)
}

// frontRelays asks the front to relay the rest and waits for it. It reports whether the front exists. A front that is
// suspended does not answer: frontRelays returns true after a little more than the limit.
func (p *Policy) frontRelays(stopping bool) bool {
	p.relay.CloseSlave()
	if p.Front.Relay(stopping) != nil {
		return false
	}
	select {
	case <-p.Front.Relayed:
	case <-time.After(p.limit + min(p.limit/2, time.Second)):
	case <-p.Front.Gone:
		return false
	}
	return true
}

// Deliver waits, after the run, until a slow reader has taken all output. A stop signal ends the wait.
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
