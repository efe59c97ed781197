package tree

import (
	"slices"
	"syscall"

	"graceful/runner/procfs"
)

// stopSignals records which stop signals each member has received. Many programs take a second one as "abort now".
type stopSignals struct {
	received map[procfs.Identity]receipt
	before   []sentSignal   // those of a graceful that was killed
	last     procfs.Moment  // when the last one was sent
	unnoted  syscall.Signal // was sent by StopGroup, and NoteReceivers has not recorded the receivers; 0: none
	unseen   bool           // one was sent to the group without /proc, so that its members are unknown
}

// receipt is the stop signals that one member has received. at is before the first.
type receipt struct {
	signals []syscall.Signal
	at      procfs.Moment
}

// sentSignal is a signal that was sent to the target's process group after at, or to all members.
type sentSignal struct {
	signal syscall.Signal
	all    bool
	at     procfs.Moment
}

// add records that a member has received a signal. It reports whether that is news.
func (s *stopSignals) add(id procfs.Identity, sig syscall.Signal, at procfs.Moment) bool {
	r, known := s.received[id]
	if slices.Contains(r.signals, sig) {
		return false
	}
	if !known {
		r.at = at
	}
	r.signals = append(slices.Clip(r.signals), sig)
	if s.received == nil {
		s.received = map[procfs.Identity]receipt{}
	}
	s.received[id] = r
	return true
}

// LastStop returns a moment just before StopGroup or SignalRest last sent a signal. It is zero if none was sent, or
// where that is unknown.
func (t *Tree) LastStop() procfs.Moment { return t.stops.last }

// WasStopped declares that another process of graceful has sent a stop signal to the target's group after a moment, or
// to all members.
func (t *Tree) WasStopped(sig syscall.Signal, all bool, at procfs.Moment) {
	t.stops.before = append(t.stops.before, sentSignal{sig, all, at})
}

// StopGroup is SignalGroup for a stop signal. NoteReceivers follows.
func (t *Tree) StopGroup(sig syscall.Signal) error {
	t.stops.last, t.stops.unnoted = procfs.Moment{}, 0
	if t.proc == nil {
		t.stops.unseen = t.targetUnreaped
		return t.SignalGroup(sig)
	}
	before := t.proc.Now()
	if err := t.SignalGroup(sig); err != nil || !t.targetUnreaped {
		return err
	}
	t.stops.last, t.stops.unnoted = before, sig
	return nil
}

// NoteReceivers records the members that have received the signal of StopGroup, for SignalRest. It is a step of its own
// because it takes long: the signal is recorded first, for a graceful that takes over.
//
// A process that leaves the group meanwhile counts as not asked, since it may have left before the signal.
func (t *Tree) NoteReceivers() {
	sig, at := t.stops.unnoted, t.stops.last
	if t.stops.unnoted = 0; sig == 0 {
		return
	}
	// A member that dies of the signal leaves children, which may be reparented to where the search has already been.
	// So two looks in a row must find no new member.
	for quiet, looks := 0, 0; quiet < 2 && looks < maxPasses; looks++ {
		quiet++
		for _, p := range t.Members() {
			if p.Group == t.group && !at.Precedes(p.Identity) && t.stops.add(p.Identity, sig, at) {
				quiet = 0
			}
		}
	}
}

// SignalRest is Signal for the members that have received no stop signal: neither from StopGroup nor from SignalRest.
// It skips what a living member has started since it was asked: that member may need it to end.
func (t *Tree) SignalRest(signals ...syscall.Signal) {
	t.stops.last = procfs.Moment{}
	if t.proc == nil {
		if !t.stops.unseen || t.level != Group { // else every member was asked
			t.Signal(signals...)
		}
		return
	}
	skip := func(p procfs.Process, members map[int]procfs.Process) bool {
		if _, asked := t.wasAsked(p, signals[0]); asked {
			return true
		}
		parent, alive := members[p.PPID]
		if !alive {
			return false
		}
		at, asked := t.wasAsked(parent, signals[0])
		return asked && at.Precedes(p.Identity)
	}
	if len(t.stops.received)+len(t.stops.before) == 0 {
		skip = nil
	}
	receivers, before := t.signalOnce(signals, skip)
	for _, id := range receivers {
		t.stops.add(id, signals[0], before)
		t.stops.last = before
	}
}

// wasAsked reports whether a member has received a stop signal: sig itself, or another one that it does not ignore.
// (The background jobs of a shell ignore SIGINT and SIGQUIT.) at is before it was asked first.
func (t *Tree) wasAsked(p procfs.Process, sig syscall.Signal) (at procfs.Moment, asked bool) {
	counts := func(received syscall.Signal) bool { return received == sig || !t.proc.Ignores(p.PID, received) }
	if r, ok := t.stops.received[p.Identity]; ok && slices.ContainsFunc(r.signals, counts) {
		return r.at, true
	}
	for _, s := range t.stops.before {
		if (s.all || p.Group == t.group && t.group != 0) && !s.at.Precedes(p.Identity) && counts(s.signal) {
			return s.at, true
		}
	}
	return at, false
}
