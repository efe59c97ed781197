package tree

import (
	"slices"
	"syscall"

	"graceful/runner/procfs"
)

// stopSignals records which stop signals each member has received with the target's group. Many programs take a second
// one as "abort now".
type stopSignals struct {
	received map[procfs.Identity][]syscall.Signal
	lastSent procfs.Moment
	unseen   bool // one was sent to the group without /proc, so that its members are unknown
}

// StopGroup is SignalGroup for a stop signal. It records the members that receive the signal, for SignalUnasked.
//
// A process that leaves the group during the call counts as not asked, since it may have left before the signal.
func (t *Tree) StopGroup(sig syscall.Signal) error {
	if t.proc == nil {
		t.stops.unseen = t.targetUnreaped
		return t.SignalGroup(sig)
	}
	before := t.proc.Now()
	if err := t.SignalGroup(sig); err != nil || !t.targetUnreaped {
		return err
	}
	t.stops.lastSent = before
	if t.stops.received == nil {
		t.stops.received = map[procfs.Identity][]syscall.Signal{}
	}
	// A member that dies of the signal leaves children, which may be reparented to where the search has already been.
	// So two looks in a row must find no new member.
	for quiet, looks := 0, 0; quiet < 2 && looks < maxPasses; looks++ {
		quiet++
		for _, p := range t.Members() {
			received := t.stops.received[p.Identity]
			if p.Group != t.group || before.Precedes(p.Identity) || slices.Contains(received, sig) {
				continue
			}
			t.stops.received[p.Identity] = append(received, sig)
			quiet = 0
		}
	}
	return nil
}

// SignalUnasked is Signal for the members that StopGroup has not asked to stop. It skips what a living asked member has
// started since: the member may need it to end.
func (t *Tree) SignalUnasked(signals ...syscall.Signal) {
	switch {
	case t.proc == nil && t.stops.unseen && t.level == Group: // every member was asked
	case len(t.stops.received) == 0:
		t.Signal(signals...)
	default:
		t.signalOnce(signals, func(p procfs.Process, members map[int]procfs.Process) bool {
			parent, alive := members[p.PPID]
			return t.wasAsked(p, signals[0]) ||
				alive && t.wasAsked(parent, signals[0]) && t.stops.lastSent.Precedes(p.Identity)
		})
	}
}

// wasAsked reports whether a member has received a stop signal with its group: sig itself, or another one that it does
// not ignore. (The background jobs of a shell ignore SIGINT and SIGQUIT.)
func (t *Tree) wasAsked(p procfs.Process, sig syscall.Signal) bool {
	return slices.ContainsFunc(t.stops.received[p.Identity], func(received syscall.Signal) bool {
		return received == sig || !t.proc.Ignores(p.PID, received)
	})
}
