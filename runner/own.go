package runner

import (
	"log/slog"
	"slices"
	"syscall"
	"time"

	"graceful/forward"
	"graceful/runner/terminal"

	"golang.org/x/sys/unix"
)

// relaying is what the run does about a terminal of the target's own. The front relays, so that nothing that was written
// is lost when the supervisor is killed; when it is the front, the supervisor relays what is written from then on. The
// machine does not begin to clean before all has been relayed.
type relaying struct {
	pty     *terminal.PTY // nil: the target has none
	stopped bool          // nobody wants to wait

	// How long a reader of our output may take nothing, or too little, before cleanup begins without it.
	stall, limit time.Duration

	// In the supervisor.
	elsewhere func(stopped int) bool // have the front relay the rest
	relayed   <-chan struct{}        // it has
	gone      <-chan struct{}        // it has ended
}

func newRelaying(pty *terminal.PTY, c Config) relaying {
	o := relaying{pty: pty, stall: time.Second, limit: 10 * time.Second}
	if c.Deadline > 0 {
		o.stall, o.limit = c.Patience(), c.Patience()
	}
	return o
}

func openPTY(c Config, log *slog.Logger) (*terminal.PTY, error) {
	if !c.PTY {
		return nil, nil
	}
	return terminal.OpenPTY(log)
}

// signal sends what the terminal does not: the kernel tells those in its foreground when its size changes. A group whose
// session has nobody outside, as the target's, would not be stopped by any signal but SIGSTOP.
func (o relaying) signal(sig syscall.Signal, send func(syscall.Signal) error) error {
	switch {
	case o.pty == nil:
	case sig == unix.SIGWINCH && o.pty.Resize():
		return nil
	case sig == unix.SIGCONT:
		o.pty.Heard(sig)
		o.pty.Resize()
	case forward.MeaningOf(sig) == forward.Suspend:
		sig = unix.SIGSTOP
	}
	return send(sig)
}

func (o relaying) signalAll(sigs []syscall.Signal, send func(...syscall.Signal)) {
	if !slices.Contains(sigs, unix.SIGWINCH) || !o.pty.Resize() {
		send(sigs...)
	}
}

// relay relays the rest of the target's output.
func (o *relaying) relay(stopped bool) <-chan struct{} {
	o.stopped = o.stopped || stopped
	return o.pty.Finish(o.stall, o.limit)
}

func (p *processes) relayRest(r Run, stopped bool) <-chan struct{} {
	o := &p.own
	done := make(chan struct{})
	stopped = stopped || r.Stop.TimedOut || r.Stop.Orphaned
	go func() {
		defer close(done)
		switch {
		case o.pty == nil: // a third process finishes the run
		case o.elsewhere != nil && o.frontRelays(stopped):
		default:
			<-o.relay(stopped)
		}
	}()
	return done
}

// frontRelays waits until the front has relayed the rest, and tells whether it is there to do so. It may be stopped.
func (o *relaying) frontRelays(stopped bool) bool {
	o.pty.CloseSlave()
	value := 0
	if stopped {
		value = 1
	}
	if !o.elsewhere(value) {
		return false
	}
	select {
	case <-o.relayed:
	case <-time.After(o.limit + min(o.limit/2, time.Second)):
	case <-o.gone:
		return false
	}
	return true
}

// deliver waits until a slow reader has taken all; a stop signal ends that.
func (o *relaying) deliver(signals <-chan syscall.Signal) {
	if o.pty == nil || o.stopped {
		return
	}
	delivered := o.pty.Finish(0, 0)
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
