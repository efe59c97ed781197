package runner

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// watchedSystem is a fake system that records the order of the calls. A signal to a reaped target or a reaped command
// fails the test.
type watchedSystem struct {
	*fakeSystem
	t         *testing.T
	reaped    map[int]bool  // contains the pids of the reaped processes
	pinned    map[int]bool  // contains the pids of the processes that were zombies at a call of Kill
	calls     []string      // in order; signals with their receivers
	scans     int           // number of calls of Empty
	forbidden map[int]bool  // contains the pids of the processes that graceful may not signal
	blind     bool          // Kill finds no member
	nextPIDs  []int         // pids of the next commands, in order
	logged    []slog.Record // records of the loop's logger
	notes     bool          // calls also contains the steps of recording a stop signal

	notified map[string]time.Duration // by first assignment of a message to the service manager, the time since began
}

func newWatchedSystem(t *testing.T) *watchedSystem {
	return &watchedSystem{
		fakeSystem: newFakeSystem(), t: t, reaped: map[int]bool{}, pinned: map[int]bool{}, forbidden: map[int]bool{},
		notified: map[string]time.Duration{},
	}
}

func (s *watchedSystem) call(pid int, what string) {
	s.calls = append(s.calls, what)
	if s.reaped[pid] {
		s.t.Errorf("%s: process %d was reaped; its pid may be reused", what, pid)
	}
}

func (s *watchedSystem) notifyManager(assignments ...string) {
	if _, again := s.notified[assignments[0]]; !again {
		s.notified[assignments[0]] = time.Since(s.began)
	}
}

func (s *watchedSystem) startTarget(r Run) (int, error) {
	s.calls = append(s.calls, "start target")
	return s.fakeSystem.startTarget(r)
}

func (s *watchedSystem) startCommand(r Run, c cleanup.Entry) (int, cleanup.Outputs, error) {
	if len(s.nextPIDs) > 0 {
		s.nextPID, s.nextPIDs = s.nextPIDs[0]-1, s.nextPIDs[1:]
	}
	pid, dead, err := s.fakeSystem.startCommand(r, c)
	delete(s.reaped, pid)
	s.calls = append(s.calls, "start "+c.Command.Text)
	return pid, dead, err
}

func (s *watchedSystem) reap(pid int) {
	s.reaped[pid] = true
	s.fakeSystem.reap(pid)
}

func (s *watchedSystem) signalGroup(sig syscall.Signal) error {
	s.call(targetPID, "group "+unix.SignalName(sig))
	return s.fakeSystem.signalGroup(sig)
}

func (s *watchedSystem) LastStop() procfs.Moment {
	if s.notes {
		s.calls = append(s.calls, "record")
	}
	return s.fakeSystem.LastStop()
}

func (s *watchedSystem) NoteReceivers() {
	if s.notes {
		s.calls = append(s.calls, "look")
	}
}

func (s *watchedSystem) stopGroup(sig syscall.Signal) error { return s.signalGroup(sig) }
func (s *watchedSystem) signalRest(sigs ...syscall.Signal)  { s.signalSurvivors(sigs...) }

func (s *watchedSystem) signalSurvivors(signals ...syscall.Signal) {
	for _, sig := range signals {
		s.calls = append(s.calls, "survivors "+unix.SignalName(sig))
	}
	s.fakeSystem.signalSurvivors(signals...)
}

func (s *watchedSystem) signalCommand(pid int, sig syscall.Signal) {
	s.call(pid, "command "+unix.SignalName(sig))
	s.fakeSystem.signalCommand(pid, sig)
}

func (s *watchedSystem) KillBelow(pid int) {
	s.call(pid, "command SIGKILL")
	s.fakeSystem.KillBelow(pid)
}

func (s *watchedSystem) SignalAll(id procfs.Identity, sig syscall.Signal) {
	s.calls = append(s.calls, fmt.Sprintf("all of %d %s", id.PID, unix.SignalName(sig)))
	s.fakeSystem.SignalAll(id, sig)
}

func (s *watchedSystem) Kill() (found, denied []procfs.Process) {
	if s.blind {
		return nil, nil
	}
	s.Lock()
	for _, pid := range s.zombies {
		s.pinned[pid] = true
	}
	for pid := range s.forbidden {
		s.immortal[pid] = true
	}
	s.Unlock()
	found, denied = s.fakeSystem.Kill()
	for _, p := range found {
		if s.forbidden[p.PID] {
			denied = append(denied, p)
		}
	}
	return found, denied
}

func (s *watchedSystem) Empty(childless bool) bool {
	s.scans++
	return s.fakeSystem.Empty(childless)
}

func (s *watchedSystem) prepareCleaning() { s.calls = append(s.calls, "cleaning") }

// watchedSystem is also a slog.Handler that keeps the records.
func (s *watchedSystem) Enabled(context.Context, slog.Level) bool { return true }
func (s *watchedSystem) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *watchedSystem) WithGroup(string) slog.Handler            { return s }
func (s *watchedSystem) Handle(_ context.Context, r slog.Record) error {
	s.logged = append(s.logged, r)
	return nil
}

func (s *watchedSystem) warnings() (all []string) {
	for _, r := range s.logged {
		if r.Level >= slog.LevelWarn {
			all = append(all, r.Message)
		}
	}
	return all
}

// perform performs the run r on a watched system in a bubble of synctest. script sets the system up, and begin is the
// first step of the loop. perform returns the run at its end, the system and the ledger.
func perform(t *testing.T, r Run, script func(*watchedSystem), begin func(*loop)) (Run, *watchedSystem, *memory) {
	t.Helper()
	var s *watchedSystem
	runLedger := &memory{}
	synctest.Test(t, func(t *testing.T) {
		s = newWatchedSystem(t)
		script(s)
		l := loopOn(s, r)
		l.log, l.recorder.ledger = slog.New(s), runLedger
		begin(l)
		r = l.complete()
		s.note("done")
	})
	return r, s, runLedger
}

// watched performs a run from its start. commands are the texts of its cleanup commands (see timingCase).
func watched(t *testing.T, config Config, commands []string, script func(*watchedSystem)) (Run, *watchedSystem) {
	t.Helper()
	config.Command = []string{"target"}
	r := newRun("id", config)
	for _, c := range commands {
		r.Cleanup.Commands = r.Cleanup.Add(cleanup.AtExit, cleanup.Command{Text: c, Limit: 30 * time.Second})
	}
	run, s, _ := perform(t, r, script, func(l *loop) { l.performAction(machine.StartTarget{}) })
	return run, s
}

// simulate performs a run from its start. It returns the run and the actions of the loop.
func simulate(t *testing.T, config Config, commands []string, script func(*fakeSystem)) (Run, []string) {
	t.Helper()
	run, s := watched(t, config, commands, func(s *watchedSystem) { script(s.fakeSystem) })
	return run, s.trace
}

func (s *watchedSystem) ended() time.Duration {
	at, _, _ := strings.Cut(s.trace[len(s.trace)-1], " ")
	d, err := time.ParseDuration(at)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func endsAfter(d time.Duration) func(*watchedSystem) {
	return func(s *watchedSystem) { s.at(d, func() { s.end(machine.Ending{}, targetPID) }) }
}
