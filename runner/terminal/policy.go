package terminal

import (
	"cmp"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/forward"
)

// Policy is a terminal of the target, with the decisions about that terminal: how long graceful waits for the reader of
// the output, and which signals the terminal itself sends. The zero Policy is for a target without its own terminal.
// Cleanup begins when the rest of the output has been relayed, or when the reader has exceeded stall or limit.
type Policy struct {
	*PTY // nil: the target has no terminal of its own

	relay    relay         // the same PTY, as an interface that tests replace; nil: none
	stall    time.Duration // maximum time that the reader may read nothing before cleanup begins
	limit    time.Duration // maximum time that the reader may need for the whole rest
	stopping bool          // the run is being stopped, so Deliver does not wait
}

// relay is the part of *PTY that Policy needs.
type relay interface {
	Resize() bool
	HandleSignal(syscall.Signal)
	CloseSlave()
	Finish(stall, limit time.Duration) (done <-chan struct{})
}

// These limits apply to the reader of the output if the run has no deadline.
const (
	stallLimit   = time.Second
	deliverLimit = 10 * time.Second
)

// NewPolicy returns the policy for pty, which may be nil. patience replaces both limits for the reader of the output.
// If patience is at most 0, the default limits apply.
func NewPolicy(pty *PTY, patience time.Duration) Policy {
	patience = max(patience, 0)
	p := Policy{PTY: pty, stall: cmp.Or(patience, stallLimit), limit: cmp.Or(patience, deliverLimit)}
	if pty != nil {
		p.relay = pty
	}
	return p
}

// Signal sends a signal to the target by calling send, unless the terminal itself sends the signal: when the size
// changes, the kernel sends SIGWINCH to the foreground group of the terminal. Signal returns the error of send. It
// replaces a suspend signal by SIGSTOP, because the target's group is an orphaned process group, which no other signal
// suspends (setpgid(2)). Before SIGCONT it calls HandleSignal and Resize. Without a PTY, Signal only calls send.
func (p *Policy) Signal(sig syscall.Signal, send func(syscall.Signal) error) error {
	switch {
	case p.relay == nil:
	case sig == unix.SIGWINCH && p.relay.Resize():
		return nil
	case sig == unix.SIGCONT:
		p.relay.HandleSignal(sig)
		p.relay.Resize()
	case forward.MeaningOf(sig) == forward.Suspend:
		sig = unix.SIGSTOP
	}
	return send(sig)
}

// SignalAll calls send with sigs. It sends nothing if sigs contains SIGWINCH and the new size of the terminal makes the
// kernel send SIGWINCH.
func (p *Policy) SignalAll(sigs []syscall.Signal, send func(...syscall.Signal)) {
	if p.relay == nil || !slices.Contains(sigs, unix.SIGWINCH) || !p.relay.Resize() {
		send(sigs...)
	}
}

// RelayRest relays the rest of the target's output. It closes relayed when all of that output is written, when the
// reader of the output has read nothing for the time p.stall, or after the time p.limit. Without a PTY, relayed is
// closed at once. If stopping is true, Deliver will not wait for the reader.
func (p *Policy) RelayRest(stopping bool) (relayed <-chan struct{}) {
	if p.relay == nil { // graceful recover finishes a run whose terminal no longer exists
		done := make(chan struct{})
		close(done)
		return done
	}
	p.stopping = p.stopping || stopping
	return p.relay.Finish(p.stall, p.limit)
}

// Deliver waits after the run until all output is written, even if the reader is slow. A stop signal ends that wait. If
// the run was stopped, or without a PTY, Deliver does not wait.
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
