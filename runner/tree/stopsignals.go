package tree

import (
	"slices"
	"syscall"

	"graceful/runner/procfs"
)

// stopSignals records which stop signals each member has received. Many programs treat a second one as "abort now".
type stopSignals struct {
	// received maps each member to its receipt. A missing member has received no stop signal.
	received map[procfs.Identity]receipt

	fromPredecessor  []sentSignal   // stop signals that a killed graceful has sent
	lastSent         procfs.Moment  // result of LastStop
	unnotedSignal    syscall.Signal // signal of StopGroup whose receivers NoteReceivers has not recorded yet; 0: none
	receiversUnknown bool           // a stop signal was sent to the group without /proc, so its receivers are unknown
}

// receipt records the stop signals that one member has received. at is a moment before the first of these signals.
type receipt struct {
	signals []syscall.Signal
	at      procfs.Moment
}

// sentSignal is a stop signal that was sent after the moment at: to all members if all is true, else to the target's
// process group.
type sentSignal struct {
	signal syscall.Signal
	all    bool
	at     procfs.Moment
}

// add records that the member with the identity id has received the signal sig after the moment at. It returns false if
// this signal of this member was recorded before.
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

// LastStop returns a moment just before the last StopGroup or SignalRest sent its signal. It returns the zero Moment if
// that call has signalled no process, or if the time is unknown (without /proc).
func (t *Tree) LastStop() procfs.Moment { return t.stopSignals.lastSent }

// NoteEarlierStop records that a killed graceful has sent the stop signal sig after the moment at: to all members if
// all is true, else to the target's group.
func (t *Tree) NoteEarlierStop(sig syscall.Signal, all bool, at procfs.Moment) {
	t.stopSignals.fromPredecessor = append(t.stopSignals.fromPredecessor, sentSignal{sig, all, at})
}

// StopGroup does what SignalGroup does, for a stop signal. The caller then calls NoteReceivers.
func (t *Tree) StopGroup(sig syscall.Signal) error {
	t.stopSignals.lastSent, t.stopSignals.unnotedSignal = procfs.Moment{}, 0
	if t.proc == nil {
		t.stopSignals.receiversUnknown = t.targetUnreaped
		return t.SignalGroup(sig)
	}
	before := t.proc.Now()
	if err := t.SignalGroup(sig); err != nil || !t.targetUnreaped {
		return err
	}
	t.stopSignals.lastSent, t.stopSignals.unnotedSignal = before, sig
	return nil
}

// NoteReceivers records the members that have received the signal of StopGroup, for SignalRest. NoteReceivers is a
// separate step because it takes long. Before that step the caller records the signal, for a successor. Without /proc,
// NoteReceivers does nothing.
//
// If a process leaves the group before NoteReceivers examines the group, the process counts as a member without a stop
// signal, because the process may have left before the signal.
func (t *Tree) NoteReceivers() {
	sig, at := t.stopSignals.unnotedSignal, t.stopSignals.lastSent
	if t.stopSignals.unnotedSignal = 0; sig == 0 {
		return
	}
	// When a member dies of the signal, its children may be reparented to a part of the tree that was already searched. So
	// repeat until two consecutive scans find no new member.
	for quiet, scans := 0, 0; quiet < 2 && scans < maxPasses; scans++ {
		quiet++
		for _, p := range t.Members() {
			if p.Group == t.targetGroup && !at.Precedes(p.Identity) && t.stopSignals.add(p.Identity, sig, at) {
				quiet = 0
			}
		}
	}
}

// SignalRest does what Signal does, but only for members that have received no stop signal, in the sense of wasAsked.
// The first of the signals is the stop signal. If a live member has started a process since its own stop signal,
// SignalRest skips that process, because the member may need the process in order to end.
func (t *Tree) SignalRest(signals ...syscall.Signal) {
	t.stopSignals.lastSent = procfs.Moment{}
	if t.proc == nil {
		// At level Group, a signal to the target's group has reached every member.
		if !t.stopSignals.receiversUnknown || t.level != Group {
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
	if len(t.stopSignals.received)+len(t.stopSignals.fromPredecessor) == 0 {
		skip = nil
	}
	receivers, before := t.signalOnce(signals, skip)
	for _, id := range receivers {
		t.stopSignals.add(id, signals[0], before)
		t.stopSignals.lastSent = before
	}
}

// wasAsked reports whether a member has received a stop signal. That signal must be sig, or another one that the member
// does not ignore. (Background jobs of a shell ignore SIGINT and SIGQUIT.) at is a moment before that signal.
func (t *Tree) wasAsked(p procfs.Process, sig syscall.Signal) (at procfs.Moment, asked bool) {
	counts := func(received syscall.Signal) bool { return received == sig || !t.proc.Ignores(p.PID, received) }
	if r, ok := t.stopSignals.received[p.Identity]; ok && slices.ContainsFunc(r.signals, counts) {
		return r.at, true
	}
	for _, s := range t.stopSignals.fromPredecessor {
		if (s.all || p.Group == t.targetGroup && t.targetGroup != 0) && !s.at.Precedes(p.Identity) && counts(s.signal) {
			return s.at, true
		}
	}
	return at, false
}
