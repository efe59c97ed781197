package runner

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/machine"
	"graceful/runner/procfs"

	"golang.org/x/sys/unix"
)

// watchedSystem is the small operating system with somebody who looks at what the loop must never do, and at what it
// does that takes no time.
type watchedSystem struct {
	*fakeSystem
	t          *testing.T
	reaped     map[int]bool
	pinned     map[int]bool // was a zombie while the tree was killed
	calls      []string     // signals by their receivers, and what else has an order
	looks      int          // at whether the tree is empty
	childKills int
	forbidden  map[int]bool // may not be signalled
	blind      bool         // members are not found
	targetErr  error
	nextPIDs   []int // of cleanup commands; then the usual ones
	logged     []slog.Record
}

func newWatchedSystem(t *testing.T) *watchedSystem {
	return &watchedSystem{
		fakeSystem: newFakeSystem(), t: t, reaped: map[int]bool{}, pinned: map[int]bool{}, forbidden: map[int]bool{},
	}
}

func (s *watchedSystem) call(pid int, what string) {
	s.calls = append(s.calls, what)
	if s.reaped[pid] {
		s.t.Errorf("%s: process %d had been reaped, its id may be a stranger's", what, pid)
	}
}

func (s *watchedSystem) startTarget(r Run) (int, error) {
	s.calls = append(s.calls, "start target")
	if s.targetErr != nil {
		return 0, s.targetErr
	}
	return s.fakeSystem.startTarget(r)
}

func (s *watchedSystem) startCommand(r Run, c cleanup.Entry) (int, error) {
	if len(s.nextPIDs) > 0 {
		s.nextPID, s.nextPIDs = s.nextPIDs[0]-1, s.nextPIDs[1:]
	}
	pid, err := s.fakeSystem.startCommand(r, c)
	delete(s.reaped, pid)
	s.calls = append(s.calls, "start "+c.Command.Text)
	return pid, err
}

func (s *watchedSystem) reap(pid int) {
	s.reaped[pid] = true
	s.fakeSystem.reap(pid)
}

func (s *watchedSystem) signalGroup(sig syscall.Signal) error {
	s.call(targetPID, "group "+unix.SignalName(sig))
	return s.fakeSystem.signalGroup(sig)
}

func (s *watchedSystem) stopGroup(sig syscall.Signal) error   { return s.signalGroup(sig) }
func (s *watchedSystem) signalUnasked(sigs ...syscall.Signal) { s.signalSurvivors(sigs...) }

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
	found, _ = s.fakeSystem.Kill()
	for _, p := range found {
		if s.forbidden[p.PID] {
			denied = append(denied, p)
		}
	}
	return found, denied
}

func (s *watchedSystem) Empty(childless bool) bool {
	s.looks++
	return s.fakeSystem.Empty(childless)
}

func (s *watchedSystem) KillChildren() { s.childKills++ }

func (s *watchedSystem) cleaning() { s.calls = append(s.calls, "cleaning") }

// The system is also the handler of the log, whose records nobody formats.
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

// watch leads a run on a watched system.
func watched(t *testing.T, config Config, commands []string, script func(*watchedSystem)) (Run, *watchedSystem) {
	t.Helper()
	var run Run
	var s *watchedSystem
	synctest.Test(t, func(t *testing.T) {
		s = newWatchedSystem(t)
		config.Command = []string{"target"}
		r := newRun("id", config)
		for _, c := range commands {
			r.Cleanup.Stack = r.Cleanup.Push(cleanup.AtExit, cleanup.Command{Text: c, Limit: 30 * time.Second})
		}
		script(s)
		l := loop{run: r, sys: systemOf(s), log: slog.New(s), in: inputs{signals: s.signals, children: s.nudge}}
		run = l.start()
		s.note("done")
	})
	return run, s
}

func (s *watchedSystem) ended() time.Duration {
	at, _, _ := strings.Cut(s.did[len(s.did)-1], " ")
	d, err := time.ParseDuration(at)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func endsAfter(d time.Duration) func(*watchedSystem) {
	return func(s *watchedSystem) { s.at(d, func() { s.end(machine.Ending{}, targetPID) }) }
}

// A stopped process can act on a signal only when it goes on: CONT comes after it, not before.
func TestSignalsThatEndAreFollowedByCONT(t *testing.T) {
	_, s := watched(t, Config{Policy: machine.Policy{Grace: 2 * time.Second}}, []string{"1h"}, func(s *watchedSystem) {
		s.living[7] = true
		s.send(time.Second, unix.SIGUSR1)
		s.send(2*time.Second, unix.SIGINT)
		s.at(3*time.Second, func() { s.end(machine.Ending{}, targetPID) })
		s.send(3500*time.Millisecond, unix.SIGQUIT)
		s.send(3600*time.Millisecond, unix.SIGHUP)
	})
	want := []string{
		"start target", "group SIGUSR1", "group SIGINT", "group SIGCONT",
		"survivors SIGTERM", "survivors SIGCONT", "survivors SIGQUIT", "survivors SIGCONT", "survivors SIGHUP",
		"cleaning", "start 1h", "command SIGTERM", "command SIGCONT", "command SIGKILL",
		"command SIGKILL", // to what is left of its group
	}
	if !slices.Equal(s.calls, want) {
		t.Errorf("it did\n\t%s\nwant\n\t%s", strings.Join(s.calls, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestSignalsDuringTheCleaningAreLoggedAndChangeNothing(t *testing.T) {
	signals := []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGTSTP}
	run, s := watched(t, Config{Policy: machine.Policy{Grace: time.Second}}, []string{"10s"}, func(s *watchedSystem) {
		endsAfter(time.Second)(s)
		for i, sig := range signals {
			s.send(time.Duration(2+i)*time.Second, sig)
		}
	})
	if want := []string{"1s survivors terminated", "1s start 10s", "11s done"}; !slices.Equal(s.did, want) || run.Reason() != "exited" {
		t.Errorf("it did %q for %s, want %q", s.did, run.Reason(), want)
	}
	for _, sig := range signals {
		if !slices.ContainsFunc(s.logged, func(r slog.Record) bool {
			return r.Level == slog.LevelInfo && r.Message == "received "+strings.TrimPrefix(unix.SignalName(sig), "SIG")
		}) {
			t.Errorf("%v is not in the log", sig)
		}
	}
}

// The end is there before its announcement: at the moment when the grace is over nobody is left to be killed.
func TestAnEndBeforeTheGraceIsOverIsNoKill(t *testing.T) {
	run, s := watched(t, Config{Policy: machine.Policy{Grace: 10 * time.Second}}, nil, func(s *watchedSystem) {
		s.send(time.Second, unix.SIGTERM)
		s.at(5*time.Second, func() { // and no nudge
			delete(s.living, targetPID)
			s.zombies = append(s.zombies, targetPID)
		})
	})
	if run.Stop.Escalated || len(s.warnings()) > 0 {
		t.Errorf("escalated: %t, warnings %q", run.Stop.Escalated, s.warnings())
	}
}

// While the leader of a group is a zombie the group's id is nobody else's: that is when the group is killed.
func TestWhatALeaderLeavesIsKilledBeforeTheLeaderIsReaped(t *testing.T) {
	_, s := watched(t, Config{Policy: machine.Policy{Grace: time.Second}}, []string{"2s"}, func(s *watchedSystem) {
		s.send(time.Second, unix.SIGTERM)
	})
	for _, pid := range []int{targetPID, 201} {
		if !s.pinned[pid] {
			t.Errorf("nothing was killed between the end of process %d and its reaping", pid)
		}
	}
}

// Pids come back. Who has one is decided by what runs, not by what ran.
func TestAPIDThatComesBackIsSomebodyElse(t *testing.T) {
	for name, pids := range map[string][]int{
		"the target's for a command":       {targetPID, 300},
		"the first command's for a second": {300, 300},
	} {
		t.Run(name, func(t *testing.T) {
			run, s := watched(t, Config{Policy: machine.Policy{Order: cleanup.FIFO}}, []string{"1s", "2s"}, func(s *watchedSystem) {
				s.nextPIDs = pids
				endsAfter(time.Second)(s)
			})
			if want := []string{"1s survivors terminated", "1s start 1s", "2s start 2s", "4s done"}; !slices.Equal(s.did, want) {
				t.Errorf("it did %q, want %q", s.did, want)
			}
			if run.Target.Duration != time.Second {
				t.Errorf("the target took %v, want 1s", run.Target.Duration)
			}
		})
	}
}

// Commands in parallel may end together, and one nudge tells of it.
func TestCommandsThatEndTogetherAreAllTaken(t *testing.T) {
	run, s := watched(t, Config{Policy: machine.Policy{Order: cleanup.Parallel}}, []string{"1s", "1s", "2s", "2s"}, endsAfter(time.Second))
	want := []string{"1s survivors terminated", "1s start 1s", "1s start 1s", "1s start 2s", "1s start 2s", "3s done"}
	if !slices.Equal(s.did, want) {
		t.Errorf("it did %q, want %q", s.did, want)
	}
	for _, c := range run.Cleanup.Entries {
		if c.Progress != cleanup.Ended || c.Outcome.Failed() {
			t.Errorf("command %d: %+v", c.ID, c)
		}
	}
}

// Passes of SIGKILL go on while the target itself is out of reach, as a setuid program is: those it starts are not.
func TestTheTreeOfATargetThatMayNotBeKilledIsKilled(t *testing.T) {
	run, s := watched(t, Config{Policy: machine.Policy{Grace: time.Second}}, nil, func(s *watchedSystem) {
		s.forbidden[targetPID] = true
		s.send(time.Second, unix.SIGTERM)
		s.at(5*time.Second, func() { s.living[8] = true })
		s.at(9*time.Second, func() { s.end(machine.Ending{Code: 3}, targetPID) })
	})
	killed := slices.IndexFunc(s.did, func(did string) bool { return strings.HasSuffix(did, "killed 8") })
	if killed < 0 || s.did[killed] > "5.2s" {
		t.Errorf("what it started at 5s was not killed soon: %q", s.did)
	}
	if run.Status() != 3 || s.ended() != 9*time.Second {
		t.Errorf("status %d after %v", run.Status(), s.ended())
	}
}

// One whom we may not kill does not keep us from waiting for those that we may.
func TestSomeMayBeKilledAndSomeMayNot(t *testing.T) {
	_, s := watched(t, Config{}, nil, func(s *watchedSystem) {
		s.living[7], s.living[8] = true, true
		s.forbidden[7] = true
		s.immortal[8] = true
		endsAfter(time.Second)(s)
		s.at(4*time.Second, func() { s.end(machine.Ending{Signal: 9}, 8) })
	})
	if got := s.ended(); got < 4*time.Second || got > 4200*time.Millisecond {
		t.Errorf("done after %v, want as soon as the mortal one is gone", got)
	}
}

// Where members cannot be found (no /proc), that none is found says nothing until SIGKILL has had its time.
func TestNobodyFoundIsNotNobodyThere(t *testing.T) {
	_, s := watched(t, Config{}, nil, func(s *watchedSystem) {
		s.blind = true
		s.living[7] = true
		endsAfter(time.Second)(s)
		s.at(10*time.Second, func() { s.end(machine.Ending{}, 7) })
	})
	if got := s.ended(); got != 10*time.Second {
		t.Errorf("done after %v, want 10s", got)
	}
}

// Looking costs a walk through /proc: it is done for each end where ends are announced, else by the clock.
func TestHowOftenTheTreeIsLookedAt(t *testing.T) {
	for name, c := range map[string]struct {
		polling  bool
		min, max int
	}{
		"ends are announced":     {false, 1, 10},
		"ends are not announced": {true, 60 * 10, 60*20 + 100}, // every 100ms, for two looks at most
	} {
		t.Run(name, func(t *testing.T) {
			_, s := watched(t, Config{Policy: machine.Policy{Grace: time.Hour}}, nil, func(s *watchedSystem) {
				s.polling = c.polling
				s.living[7] = true
				endsAfter(time.Second)(s)
				s.at(61*time.Second, func() {
					if s.polling {
						delete(s.living, 7)
					} else {
						s.end(machine.Ending{}, 7)
					}
				})
			})
			if s.looks < c.min || s.looks > c.max {
				t.Errorf("looked %d times in a minute, want %d to %d", s.looks, c.min, c.max)
			}
			if got := s.ended(); got < 61*time.Second || got > 61*time.Second+100*time.Millisecond {
				t.Errorf("seen after %v", got)
			}
		})
	}
}

// More ends than are taken at a time are a storm. Who may still be asked to end is not struck for it.
func TestOnlyAStormThatIsBeingKilledIsStruckAt(t *testing.T) {
	for name, c := range map[string]struct {
		grace time.Duration
		want  bool
	}{"being killed": {0, true}, "in the grace": {time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			_, s := watched(t, Config{Policy: machine.Policy{Grace: c.grace}}, nil, func(s *watchedSystem) {
				s.living[7], s.immortal[7] = true, true
				var many []int
				for pid := range 3 * reapLimit {
					s.living[1000+pid], s.immortal[1000+pid] = true, true
					many = append(many, 1000+pid)
				}
				endsAfter(time.Second)(s)
				s.at(2*time.Second, func() { s.end(machine.Ending{}, many...) })
				s.at(3*time.Second, func() { s.end(machine.Ending{}, 7) })
			})
			if (s.childKills > 0) != c.want || s.ended() != 3*time.Second {
				t.Errorf("struck %d times, done after %v", s.childKills, s.ended())
			}
		})
	}
}

func TestATargetThatCannotBeStartedIsCleanedUpAfter(t *testing.T) {
	for err, status := range map[error]int{unix.ENOENT: 127, unix.EACCES: 126, unix.EAGAIN: 125} {
		run, s := watched(t, Config{}, []string{"1s"}, func(s *watchedSystem) { s.targetErr = err })
		if want := []string{"0s start 1s", "1s done"}; !slices.Equal(s.did, want) || run.Status() != status || run.Reason() != "start-failed" {
			t.Errorf("%v: it did %q with status %d for %s", err, s.did, run.Status(), run.Reason())
		}
	}
}

// A resource that does not come back is waited for as long as the command may take, and no longer.
func TestACommandThatNeverFindsResourcesIsGivenUpInTime(t *testing.T) {
	run, s := watched(t, Config{}, []string{"1s", "never"}, func(s *watchedSystem) {
		s.startErr = slices.Repeat([]error{unix.EAGAIN}, int(30*time.Second/machine.RetryAfter))
		endsAfter(time.Second)(s)
	})
	if got := s.ended(); got != 32*time.Second {
		t.Errorf("done after %v, want 32s", got)
	}
	if never, next := run.Cleanup.Entries[1], run.Cleanup.Entries[0]; !never.Outcome.Failed() || next.Outcome.Failed() {
		t.Errorf("it is %+v, the next %+v", never, next)
	}
}

// A command that SIGKILL does not end costs a known time, and the next one runs.
func TestACommandThatCannotBeKilledDoesNotKeepTheNext(t *testing.T) {
	run, s := watched(t, Config{}, []string{"1s", "1h"}, func(s *watchedSystem) {
		s.immortal[201] = true
		endsAfter(time.Second)(s)
	})
	// Once for the command, once for what is left of the tree.
	least := time.Second + 30*time.Second + machine.CommandKillAfter + machine.AbandonAfter
	started := slices.IndexFunc(s.did, func(did string) bool { return strings.HasSuffix(did, " start 1s") })
	if started < 0 {
		t.Fatalf("the next one did not run: %q", s.did)
	}
	at, err := time.ParseDuration(strings.TrimSuffix(s.did[started], " start 1s"))
	if err != nil || at < least || at > least+machine.AbandonAfter+time.Second {
		t.Errorf("the next one ran after %v, want %v at least and a wait more at most", at, least)
	}
	if o := run.Cleanup.Entries[1].Outcome; o.Error == "" {
		t.Errorf("its outcome is %+v", o)
	}
}

func TestAGraceThatWasAskedToBeNoneIsNoWarning(t *testing.T) {
	for grace, want := range map[time.Duration]int{0: 0, time.Second: 1} {
		_, s := watched(t, Config{Policy: machine.Policy{Grace: grace}}, nil, func(s *watchedSystem) { s.send(time.Second, unix.SIGTERM) })
		if got := s.warnings(); len(got) != want {
			t.Errorf("grace %v: warnings %q, want %d", grace, got, want)
		}
	}
}

// Whatever was shown of a run stays as it was: a deadline set or met later is not written into it.
func TestDeadlinesAreNotSharedBetweenCopiesOfARun(t *testing.T) {
	shown := machineIn(machine.Running)
	shown.Deadlines = []machine.Deadline{{Timer: machine.Timer{Name: machine.LimitTimer, ID: 7}, At: time.Unix(7, 0)}, {Timer: machine.Timer{Name: machine.LimitTimer, ID: 8}, At: time.Unix(8, 0)}}
	before := slices.Clone(shown.Deadlines)
	r, _ := machine.Advance(shown, machine.Signalled{Signal: 15, Meaning: forward.Stop}, time.Unix(100, 0))
	if n := len(r.Deadlines); n != 3 {
		t.Errorf("%d deadlines, want 3: %v", n, r.Deadlines)
	}
	r, _ = machine.Advance(r, machine.CommandTimer{ID: 7, Name: machine.LimitTimer}, time.Unix(101, 0))
	if n := len(r.Deadlines); n != 2 {
		t.Errorf("%d deadlines, want 2: %v", n, r.Deadlines)
	}
	if !slices.Equal(shown.Deadlines, before) {
		t.Errorf("%v became %v", before, shown.Deadlines)
	}
	// The same timer again is that timer, later.
	r, _ = machine.Advance(r, machine.TargetEnded{Ending: machine.Ending{}, After: 0}, time.Unix(102, 0))
	if n := len(r.Deadlines); n != 2 || r.Deadlines[1].At != time.Unix(100, 0).Add(r.Policy.Grace) {
		t.Errorf("the grace that had begun did not go on: %v", r.Deadlines)
	}
}

// A run that has been taken over goes on where it stands.
func TestARunIsNotStartedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWatchedSystem(t)
		s.living[targetPID] = true
		r := runIn(machine.Running)
		s.at(time.Second, func() { s.end(machine.Ending{Code: 4}, targetPID) })
		l := loop{run: r, sys: systemOf(s), log: slog.New(s), in: inputs{signals: s.signals, children: s.nudge}}
		if run := l.complete(); run.Status() != 4 || slices.Contains(s.calls, "start target") {
			t.Errorf("after %q it ended with %+v", s.calls, run)
		}
	})
}
