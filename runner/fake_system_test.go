package runner

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/cleanup/registry"
	"graceful/runner/machine"
	"graceful/runner/procfs"
	"graceful/runner/report"
)

// fakeSystem is a small operating system for tests. A script determines when its processes end, on the clock of
// synctest.
type fakeSystem struct {
	relaying   chan struct{} // result of relayRest
	sync.Mutex               // the script runs in other goroutines

	children    chan struct{}       // input of the loop: SIGCHLD
	signals     chan syscall.Signal // input of the loop: other signals
	began       time.Time
	trace       []string               // what the loop did, each with the time since began
	living      map[int]bool           // contains the pids of the live processes
	zombies     []int                  // pids of the processes that have ended and are not reaped
	endings     map[int]machine.Ending // by pid, the endings of processes that have ended
	denied      bool                   // graceful may not signal the members
	immortal    map[int]bool           // contains the pids of the processes that SIGKILL does not end
	childKills  int                    // number of calls of KillChildren
	polling     bool                   // ReportsEnds returns false, so the loop polls
	startErr    []error                // results of the next calls of startCommand, in order; nil: it starts the command
	targetErr   error                  // result of startTarget
	failed      map[int]error          // by pid, the results of startOf; missing: nil
	targetUsage *machine.Usage         // result of usage
	nextPID     int                    // pid of the last command; startCommand adds 1
	target      int                    // pid of the target that setTarget has set
	kids        []procfs.Process       // result of Children
	byGuard     map[int]int            // result of started
	guardLost   bool                   // the next call of lostGuard reports a lost guard
	orphaned    bool                   // second result of lostGuard
	others      []procfs.Process       // members of the tree that are not children
	other       map[int]int            // by pid, the id of the command that a process belongs to; missing: unknown
	exempted    []int                  // pids with which Exempt was called
	deadOutputs cleanup.Outputs        // result of startCommand and discarded
	pidfds      bool                   // awaitExit returns true: the test reports the ends of awaited processes
	running     bool                   // the target is never suspended

	// onTerm maps a pid to the time from a signal, other than SIGKILL and SIGCONT, until the process ends as if by
	// SIGTERM. If a pid is missing, such signals do not end the process.
	onTerm map[int]time.Duration
}

const targetPID = 100

func newFakeSystem() *fakeSystem {
	return &fakeSystem{
		children: make(chan struct{}, 1), signals: make(chan syscall.Signal),
		began: time.Now(), living: map[int]bool{}, endings: map[int]machine.Ending{}, immortal: map[int]bool{},
		onTerm: map[int]time.Duration{}, nextPID: 200,
	}
}

// inputs returns the inputs of a loop that runs on this system.
func (s *fakeSystem) inputs() inputs { return inputs{signals: s.signals, children: s.children} }

func (s *fakeSystem) note(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%v %s", time.Since(s.began), fmt.Sprintf(format, args...)))
}

// end makes the live processes among pids end, and sends one SIGCHLD for all of them.
func (s *fakeSystem) end(e machine.Ending, pids ...int) {
	for _, pid := range pids {
		if s.living[pid] {
			delete(s.living, pid)
			s.endings[pid] = e
			s.zombies = append(s.zombies, pid)
		}
	}
	select {
	case s.children <- struct{}{}:
	default:
	}
}

func (s *fakeSystem) terminate(pid int) {
	if after, ok := s.onTerm[pid]; ok {
		s.at(after, func() { s.end(machine.Ending{Signal: int(unix.SIGTERM)}, pid) })
	}
}

func (s *fakeSystem) pids() (all []int) {
	for pid := range s.living {
		all = append(all, pid)
	}
	slices.Sort(all)
	return all
}

func (s *fakeSystem) startTarget(Run) (int, error) {
	if s.targetErr != nil {
		return 0, s.targetErr
	}
	s.Lock()
	defer s.Unlock()
	s.living[targetPID] = true
	return targetPID, nil
}

func (s *fakeSystem) startCommand(_ Run, c cleanup.Entry) (int, cleanup.Outputs, error) {
	s.Lock()
	defer s.Unlock()
	if len(s.startErr) > 0 {
		err := s.startErr[0]
		s.startErr = s.startErr[1:]
		if err != nil {
			s.note("fail %s", c.Command.Text)
			return 0, cleanup.Outputs{}, err
		}
	}
	s.nextPID++
	pid := s.nextPID
	s.note("start %s", c.Command.Text)
	s.living[pid] = true
	if d, err := time.ParseDuration(c.Command.Text); err == nil {
		s.at(d, func() { s.end(machine.Ending{}, pid) })
	}
	return pid, s.deadOutputs, nil
}

func (s *fakeSystem) isCommand(p procfs.Process, id int) bool { return s.other[p.PID] == id }

// isOtherCommand reports whether a process certainly belongs to another command.
func (s *fakeSystem) isOtherCommand(p procfs.Process, id int) bool {
	of, known := s.other[p.PID]
	return known && of != id
}

func (s *fakeSystem) SignalAll(id procfs.Identity, sig syscall.Signal) {
	s.Lock()
	defer s.Unlock()
	s.note("all of %d %s", id.PID, unix.SignalName(sig))
	if sig == unix.SIGKILL {
		s.others = slices.DeleteFunc(s.others, func(p procfs.Process) bool { return p.Identity == id })
	}
}

func (s *fakeSystem) Alive(id procfs.Identity) bool {
	s.Lock()
	defer s.Unlock()
	return slices.ContainsFunc(s.others, func(p procfs.Process) bool { return p.Identity == id })
}

func (s *fakeSystem) member(pid int, _ uint64, _ int) (procfs.Process, error) {
	s.Lock()
	defer s.Unlock()
	for _, p := range s.others {
		if p.PID == pid {
			return p, nil
		}
	}
	return procfs.Process{}, errors.New("no member")
}

func (s *fakeSystem) SignalOrphans(...syscall.Signal) {}
func (s *fakeSystem) Members() []procfs.Process       { return s.others }
func (s *fakeSystem) Children() []procfs.Process      { return s.kids }
func (s *fakeSystem) Child(pid int) procfs.Process {
	return procfs.Process{Identity: procfs.Identity{PID: pid}}
}

func (s *fakeSystem) setTarget(r Run) { s.target = r.Target.PID }

func (s *fakeSystem) peek() (int, machine.Ending, bool) {
	s.Lock()
	defer s.Unlock()
	if len(s.zombies) == 0 {
		return 0, machine.Ending{}, len(s.living) == 0
	}
	return s.zombies[0], s.endings[s.zombies[0]], false
}

func (s *fakeSystem) startOf(pid int) (bool, error) {
	s.Lock()
	defer s.Unlock()
	return false, s.failed[pid]
}

func (s *fakeSystem) reap(pid int) {
	s.Lock()
	defer s.Unlock()
	s.zombies = slices.DeleteFunc(s.zombies, func(z int) bool { return z == pid })
}

func (s *fakeSystem) reapOrphans(isOrphan func(pid int) bool, reaped func(int, machine.Ending)) {
	for _, pid := range slices.DeleteFunc(slices.Clone(s.zombies), func(pid int) bool { return !isOrphan(pid) }) {
		s.reap(pid)
		reaped(pid, s.endings[pid])
	}
}

// signalOne records a signal to the receiver that to names, and lets onTerm end the process pid. It ignores SIGCONT.
func (s *fakeSystem) signalOne(to string, pid int, sig syscall.Signal) error {
	s.Lock()
	defer s.Unlock()
	if sig != unix.SIGCONT {
		s.note("%s %v", to, sig)
		s.terminate(pid)
	}
	return nil
}

func (s *fakeSystem) signalTarget(sig syscall.Signal) error {
	return s.signalOne("target", targetPID, sig)
}
func (s *fakeSystem) signalGroup(sig syscall.Signal) error {
	return s.signalOne("group", targetPID, sig)
}
func (s *fakeSystem) signalCommand(pid int, sig syscall.Signal) { _ = s.signalOne("command", pid, sig) }

func (s *fakeSystem) admit(registry.Call) error            { return nil }
func (s *fakeSystem) stopGroup(sig syscall.Signal) error   { return s.signalGroup(sig) }
func (s *fakeSystem) signalRest(signals ...syscall.Signal) { s.signalSurvivors(signals...) }

func (s *fakeSystem) signalSurvivors(signals ...syscall.Signal) {
	s.Lock()
	defer s.Unlock()
	if sig := signals[0]; sig != unix.SIGCONT {
		s.note("survivors %v", sig)
		if !slices.Contains(s.zombies, targetPID) {
			s.note("too late: the ids of the target and its group may be reused")
		}
		for pid := range s.living {
			s.terminate(pid)
		}
	}
}

func (s *fakeSystem) KillBelow(pid int) {
	s.Lock()
	defer s.Unlock()
	if !s.living[pid] && !slices.Contains(s.zombies, pid) {
		s.note("too late: the pid of the command may be reused")
	}
	if s.living[pid] {
		s.note("command killed")
		if !s.immortal[pid] {
			s.end(machine.Ending{Signal: 9}, pid)
		}
	}
}

func (s *fakeSystem) Kill() (found, denied []procfs.Process) {
	s.Lock()
	defer s.Unlock()
	for _, pid := range s.pids() {
		p := procfs.Process{Identity: procfs.Identity{PID: pid, Start: 1}, Name: "p"}
		found = append(found, p)
		switch {
		case s.denied:
			denied = append(denied, p)
		case !s.immortal[pid]:
			s.note("killed %d", pid)
			s.end(machine.Ending{Signal: 9}, pid)
		}
	}
	return found, denied
}

func (s *fakeSystem) Empty(bool) bool {
	s.Lock()
	defer s.Unlock()
	return len(s.living) == 0 && len(s.zombies) == 0
}

func (s *fakeSystem) KillGroup() (found, denied []procfs.Process) { return s.Kill() }

func (s *fakeSystem) OnlyGroupOf(procfs.Identity)                         {}
func (s *fakeSystem) LastStop() (m procfs.Moment)                         { return m }
func (s *fakeSystem) NoteEarlierStop(syscall.Signal, bool, procfs.Moment) {}
func (s *fakeSystem) stopBegun([]int)                                     {}
func (s *fakeSystem) SignalOutsiders()                                    {}
func (s *fakeSystem) UserOf(int) int                                      { return -1 }
func (s *fakeSystem) Suspended(int) bool                                  { return !s.running }

func (s *fakeSystem) KillChildren()     { s.Lock(); defer s.Unlock(); s.childKills++ }
func (s *fakeSystem) ReportsEnds() bool { return !s.polling }
func (s *fakeSystem) suspend()          { s.Lock(); defer s.Unlock(); s.note("suspend") }
func (s *fakeSystem) prepareCleaning()  {}

func (s *fakeSystem) suspendedBy(int) syscall.Signal              { return 0 }
func (s *fakeSystem) answerSuspension(int, syscall.Signal) string { return "" }
func (s *fakeSystem) continued(int)                               {}
func (s *fakeSystem) reclaimTerminal(int, syscall.Signal) bool    { return false }
func (s *fakeSystem) targetEnded(Run)                             {}
func (s *fakeSystem) predecessorEnded(int)                        {}
func (s *fakeSystem) started() map[int]int                        { return s.byGuard }
func (s *fakeSystem) discarded(int) cleanup.Outputs               { return s.deadOutputs }
func (s *fakeSystem) findOrphaned(Run) error                      { return nil }

func (s *fakeSystem) notifyManager(...string) {}

func (s *fakeSystem) NoteReceivers() {}

func (s *fakeSystem) isGuardChild() bool { return true }

func (s *fakeSystem) lostGuard() (lost, orphaned bool) {
	s.Lock()
	defer s.Unlock()
	lost, s.guardLost = s.guardLost, false
	return lost, s.orphaned
}

func (s *fakeSystem) Exempt(pid int) {
	s.Lock()
	defer s.Unlock()
	s.exempted = append(s.exempted, pid)
}

func (s *fakeSystem) awaitExit(procfs.Identity) bool { return s.pidfds }

func (s *fakeSystem) relayRest(Run, bool) <-chan struct{}    { return s.relaying }
func (s *fakeSystem) usage(int) *machine.Usage               { return s.targetUsage }
func (s *fakeSystem) writeReport(Run, *report.History) error { return nil }
func (s *fakeSystem) Keep(string)                            { s.Lock(); defer s.Unlock(); s.note("keep") }
func (s *fakeSystem) Disband() error                         { return nil }
func (s *fakeSystem) SetScanLimit(time.Time)                 {}
func (s *fakeSystem) IsLate() bool                           { return false }
func (s *fakeSystem) raisePriority()                         {}

// at calls the function happen, with the lock held, when the time d has passed.
func (s *fakeSystem) at(d time.Duration, happen func()) {
	time.AfterFunc(d, func() {
		s.Lock()
		defer s.Unlock()
		happen()
	})
}

// send sends a signal to graceful after the time d.
func (s *fakeSystem) send(d time.Duration, sig syscall.Signal) {
	time.AfterFunc(d, func() { s.signals <- sig })
}
