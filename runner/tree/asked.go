package tree

import (
	"slices"
	"syscall"

	"graceful/runner/procfs"
)

// asked is what StopGroup remembers: which stop signals each member has received with the target's process group. A
// second one for the same stop would mean "abort now" to many programs.
type asked struct {
	received map[procfs.Identity][]syscall.Signal
	last     procfs.Moment // when the last of them was sent
	blindly  bool          // one was sent though members cannot be seen
}

// StopGroup is SignalGroup for a stop signal: it remembers which members have received it, for SignalUnasked.
//
// A process that leaves the group between the signal and our look counts as not asked, since it may have left before.
func (t *Tree) StopGroup(sig syscall.Signal) error {
	if t.proc == nil {
		t.asked.blindly = t.unreaped
		return t.SignalGroup(sig)
	}
	before := t.proc.Now()
	if err := t.SignalGroup(sig); err != nil || !t.unreaped {
		return err
	}
	t.asked.last = before
	if t.asked.received == nil {
		t.asked.received = map[procfs.Identity][]syscall.Signal{}
	}
	// A member that dies of the signal hands its children up to us, perhaps past the place where we are looking. So two looks
	// in a row must find no further member.
	for quiet, looks := 0, 0; quiet < 2 && looks < maxPasses; looks++ {
		quiet++
		for _, p := range t.Members() {
			received := t.asked.received[p.Identity]
			if p.Group != t.group || before.Precedes(p.Identity) || slices.Contains(received, sig) {
				continue
			}
			t.asked.received[p.Identity] = append(received, sig)
			quiet = 0
		}
	}
	return nil
}

// wasAsked reports whether a member has received a stop signal with its group: that very one, or another that it does not
// ignore. (A shell's background jobs ignore SIGINT and SIGQUIT.)
func (t *Tree) wasAsked(p procfs.Process, sig syscall.Signal) bool {
	return slices.ContainsFunc(t.asked.received[p.Identity], func(received syscall.Signal) bool {
		return received == sig || !t.proc.Ignores(p.PID, received)
	})
}

// SignalUnasked is Signal for those members that StopGroup has not reached. What a living member that was asked has started
// since then may be what it needs to end, and is left to it.
func (t *Tree) SignalUnasked(signals ...syscall.Signal) {
	switch {
	case t.proc == nil && t.asked.blindly && t.level == Group:
	case len(t.asked.received) == 0:
		t.Signal(signals...)
	default:
		t.signalOnce(signals, func(p procfs.Process, members map[int]procfs.Process) bool {
			parent, alive := members[p.PPID]
			return t.wasAsked(p, signals[0]) ||
				alive && t.wasAsked(parent, signals[0]) && t.asked.last.Precedes(p.Identity)
		})
	}
}
