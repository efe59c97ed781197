package terminal

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// fakeRelay records the calls of a policy to its relay.
type fakeRelay struct {
	resized bool          // result of Resize
	done    chan struct{} // result of Finish
	calls   []string
}

func (f *fakeRelay) Resize() bool { f.calls = append(f.calls, "resize"); return f.resized }
func (f *fakeRelay) HandleSignal(s syscall.Signal) {
	f.calls = append(f.calls, fmt.Sprint("heard ", s))
}
func (f *fakeRelay) CloseSlave() { f.calls = append(f.calls, "close") }
func (f *fakeRelay) Finish(stall, limit time.Duration) <-chan struct{} {
	f.calls = append(f.calls, fmt.Sprintf("finish %v %v", stall, limit))
	return f.done
}

func policyOf(f *fakeRelay, patience time.Duration) Policy {
	p := NewPolicy(nil, patience)
	p.relay = f
	return p
}

func TestPolicySignal(t *testing.T) {
	for _, c := range []struct {
		signal  syscall.Signal
		resized bool
		sent    []syscall.Signal
		calls   []string
	}{
		{unix.SIGTERM, true, []syscall.Signal{unix.SIGTERM}, nil},
		{unix.SIGUSR1, true, []syscall.Signal{unix.SIGUSR1}, nil},
		{unix.SIGWINCH, true, nil, []string{"resize"}},
		{unix.SIGWINCH, false, []syscall.Signal{unix.SIGWINCH}, []string{"resize"}},
		{unix.SIGCONT, true, []syscall.Signal{unix.SIGCONT}, []string{"heard continued", "resize"}},
		{unix.SIGTSTP, true, []syscall.Signal{unix.SIGSTOP}, nil},
		{unix.SIGTTIN, true, []syscall.Signal{unix.SIGSTOP}, nil},
		{unix.SIGTTOU, true, []syscall.Signal{unix.SIGSTOP}, nil},
	} {
		failed := errors.New("no such process")
		var sent []syscall.Signal
		send := func(sig syscall.Signal) error { sent = append(sent, sig); return failed }
		f := &fakeRelay{resized: c.resized}
		p := policyOf(f, 0)
		err := p.Signal(c.signal, send)
		if !slices.Equal(sent, c.sent) || !slices.Equal(f.calls, c.calls) || (err == failed) != (c.sent != nil) {
			t.Errorf("%v, size changed %t: sends %v, does %v, returns %v", c.signal, c.resized, sent, f.calls, err)
		}
		none := Policy{}
		sent = nil
		if err := none.Signal(c.signal, send); err != failed || !slices.Equal(sent, []syscall.Signal{c.signal}) {
			t.Errorf("%v without a terminal: sends %v, returns %v", c.signal, sent, err)
		}
	}
}

func TestPolicySignalAll(t *testing.T) {
	winch, term := []syscall.Signal{unix.SIGWINCH}, []syscall.Signal{unix.SIGTERM, unix.SIGCONT}
	for _, c := range []struct {
		signals []syscall.Signal
		relay   *fakeRelay
		sent    bool
	}{
		{winch, &fakeRelay{resized: true}, false},
		{winch, &fakeRelay{}, true},
		{winch, nil, true},
		{term, &fakeRelay{resized: true}, true},
		{term, nil, true},
	} {
		var p Policy
		if c.relay != nil {
			p = policyOf(c.relay, 0)
		}
		var sent []syscall.Signal
		p.SignalAll(c.signals, func(sigs ...syscall.Signal) { sent = sigs })
		if c.sent != slices.Equal(sent, c.signals) || !c.sent && sent != nil {
			t.Errorf("%v, %+v: sends %v", c.signals, c.relay, sent)
		}
	}
}

// patience replaces both limits for the reader of the output. If patience is 0, the default limits apply.
func TestNewPolicy_limits(t *testing.T) {
	for patience, want := range map[time.Duration]string{
		0: "finish 1s 10s", 50 * time.Millisecond: "finish 50ms 50ms", time.Minute: "finish 1m0s 1m0s",
	} {
		f := &fakeRelay{}
		p := policyOf(f, patience)
		p.RelayRest(false)
		if !slices.Equal(f.calls, []string{want}) {
			t.Errorf("patience %v: %v", patience, f.calls)
		}
	}
	if p := NewPolicy(nil, 0); p.relay != nil {
		t.Error("a policy without a terminal has a relay")
	}
}

// Without a PTY, RelayRest returns a closed channel.
func TestPolicyRelayRest_withoutPTY(t *testing.T) {
	none := Policy{}
	<-none.RelayRest(true)
}

// Deliver waits without a limit until all output is written, or until a stop signal arrives. If the run was stopped,
// Deliver does not wait.
func TestPolicyDeliver(t *testing.T) {
	for name, c := range map[string]struct {
		stopping bool
		signal   syscall.Signal // after a minute; 0: none
		waits    time.Duration
	}{
		"all output is read":  {waits: time.Hour},
		"a stop signal":       {signal: unix.SIGTERM, waits: time.Minute},
		"another signal":      {signal: unix.SIGHUP, waits: time.Hour},
		"the run was stopped": {stopping: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeRelay{done: make(chan struct{})}
				p := policyOf(f, 0)
				p.RelayRest(c.stopping)
				p.RelayRest(false) // a later call does not reset p.stopping
				f.calls = nil
				time.AfterFunc(time.Hour, func() { close(f.done) })
				signals := make(chan syscall.Signal, 1)
				if c.signal != 0 {
					time.AfterFunc(time.Minute, func() { signals <- c.signal })
				}
				begin := time.Now()
				p.Deliver(signals)
				if took := time.Since(begin); took != c.waits {
					t.Errorf("Deliver waits %v, want %v", took, c.waits)
				}
				if want := []string{"finish 0s 0s"}; !c.stopping && !slices.Equal(f.calls, want) {
					t.Errorf("Deliver does %q, want %q", f.calls, want)
				}
			})
		})
	}
	none := Policy{}
	none.Deliver(nil)
}
