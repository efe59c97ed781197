package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/registry"
	"graceful/runner/machine"
	"graceful/runner/procfs"
	"graceful/runner/report"

	"golang.org/x/sys/unix"
)

// fakeSystem is a small operating system: processes that end when the script says so, on a clock of its own.
type fakeSystem struct {
	relaying   chan struct{}
	sync.Mutex // the script runs beside the loop

	nudge      chan os.Signal
	signals    chan syscall.Signal
	began      time.Time
	did        []string // what the loop has done, each with its time
	living     map[int]bool
	zombies    []int
	endings    map[int]machine.Ending
	denied     bool // members may not be signalled
	immortal   map[int]bool
	childKills int
	polling    bool // no end in the tree is announced
	startErr   []error
	nextPID    int
	target     int              // as we were told
	kids       []procfs.Process // that another process of ours had before
	others     []procfs.Process // members that are nobody's children
	other      map[int]int      // which process belongs to which command
	exempted   []int            // commands that are no part of the tree
	pidfds     bool             // the end of a process that is not our child is told

	onTerm map[int]time.Duration // how long after SIGTERM it ends; none: never
}

const targetPID = 100

func newFakeSystem() *fakeSystem {
	return &fakeSystem{
		nudge: make(chan os.Signal, 1), signals: make(chan syscall.Signal),
		began: time.Now(), living: map[int]bool{}, endings: map[int]machine.Ending{}, immortal: map[int]bool{},
		onTerm: map[int]time.Duration{}, nextPID: 200,
	}
}

func (s *fakeSystem) note(format string, args ...any) {
	s.did = append(s.did, fmt.Sprintf("%v %s", time.Since(s.began), fmt.Sprintf(format, args...)))
}

// end ends processes; one nudge tells of all of them.
func (s *fakeSystem) end(e machine.Ending, pids ...int) {
	for _, pid := range pids {
		if s.living[pid] {
			delete(s.living, pid)
			s.endings[pid] = e
			s.zombies = append(s.zombies, pid)
		}
	}
	select {
	case s.nudge <- unix.SIGCHLD:
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
	s.Lock()
	defer s.Unlock()
	s.living[targetPID] = true
	return targetPID, nil
}

func (s *fakeSystem) startCommand(_ Run, c cleanup.Entry) (int, error) {
	s.Lock()
	defer s.Unlock()
	if len(s.startErr) > 0 {
		err := s.startErr[0]
		s.startErr = s.startErr[1:]
		if err != nil {
			s.note("fail %s", c.Command.Text)
			return 0, err
		}
	}
	s.nextPID++
	pid := s.nextPID
	s.note("start %s", c.Command.Text)
	s.living[pid] = true
	if d, err := time.ParseDuration(c.Command.Text); err == nil {
		s.at(d, func() { s.end(machine.Ending{}, pid) })
	}
	return pid, nil
}

func (s *fakeSystem) isCommand(p procfs.Process, id int) bool { return s.other[p.PID] == id }

// isOtherCommand: of a process that is known to be another command's.
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

func (s *fakeSystem) reap(pid int) {
	s.Lock()
	defer s.Unlock()
	s.zombies = slices.DeleteFunc(s.zombies, func(z int) bool { return z == pid })
}

func (s *fakeSystem) signalTarget(sig syscall.Signal) error {
	s.Lock()
	defer s.Unlock()
	if sig != unix.SIGCONT {
		s.note("target %v", sig)
		s.terminate(targetPID)
	}
	return nil
}

func (s *fakeSystem) signalGroup(sig syscall.Signal) error {
	s.Lock()
	defer s.Unlock()
	if sig != unix.SIGCONT {
		s.note("group %v", sig)
		s.terminate(targetPID)
	}
	return nil
}

func (s *fakeSystem) admit(registry.Call) error               { return nil }
func (s *fakeSystem) stopGroup(sig syscall.Signal) error      { return s.signalGroup(sig) }
func (s *fakeSystem) signalUnasked(signals ...syscall.Signal) { s.signalSurvivors(signals...) }

func (s *fakeSystem) signalSurvivors(signals ...syscall.Signal) {
	s.Lock()
	defer s.Unlock()
	if sig := signals[0]; sig != unix.SIGCONT {
		s.note("survivors %v", sig)
		if !slices.Contains(s.zombies, targetPID) {
			s.note("too late: the target's id, and its group's, may be somebody else's")
		}
		for pid := range s.living {
			s.terminate(pid)
		}
	}
}

func (s *fakeSystem) signalCommand(pid int, sig syscall.Signal) {
	s.Lock()
	defer s.Unlock()
	if sig != unix.SIGCONT {
		s.note("command %v", sig)
		s.terminate(pid)
	}
}

func (s *fakeSystem) KillBelow(pid int) {
	s.Lock()
	defer s.Unlock()
	if !s.living[pid] && !slices.Contains(s.zombies, pid) {
		s.note("too late: the command's id may be somebody else's")
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

func (s *fakeSystem) KillChildren()   { s.Lock(); defer s.Unlock(); s.childKills++ }
func (s *fakeSystem) Announced() bool { return !s.polling }
func (s *fakeSystem) suspend()        { s.Lock(); defer s.Unlock(); s.note("suspend") }
func (s *fakeSystem) cleaning()       {}

func (s *fakeSystem) suspendedBy(int) syscall.Signal              { return 0 }
func (s *fakeSystem) answerSuspension(int, syscall.Signal) string { return "" }
func (s *fakeSystem) continued(int)                               {}
func (s *fakeSystem) reclaimTerminal(int, syscall.Signal) bool    { return false }
func (s *fakeSystem) targetEnded(Run)                             {}
func (s *fakeSystem) frontEnded(int)                              {}

func (s *fakeSystem) Exempt(pid int) {
	s.Lock()
	defer s.Unlock()
	s.exempted = append(s.exempted, pid)
}
func (s *fakeSystem) awaitExit(procfs.Identity) bool { return s.pidfds }

func (s *fakeSystem) relayRest(Run, bool) <-chan struct{}    { return s.relaying }
func (s *fakeSystem) usage(int) *machine.Usage               { return nil }
func (s *fakeSystem) writeReport(Run, *report.History) error { return nil }
func (s *fakeSystem) Keep(string)                            { s.Lock(); defer s.Unlock(); s.note("keep") }
func (s *fakeSystem) Disband() error                         { return nil }

// lead runs a run on the fake system, in a bubble whose clock stands still while anybody is busy.
func simulate(t *testing.T, config Config, commands []string, script func(*fakeSystem)) (Run, []string) {
	t.Helper()
	var run Run
	var did []string
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSystem()
		config.Command = []string{"target"}
		r := newRun("id", config)
		for _, c := range commands {
			r.Cleanup.Stack = r.Cleanup.Push(cleanup.AtExit, cleanup.Command{Text: c, Limit: 30 * time.Second})
		}
		script(s)
		l := loop{run: r, sys: systemOf(s), log: slog.New(slog.DiscardHandler), in: inputs{signals: s.signals, children: s.nudge}}
		run = l.start()
		s.note("done")
		did = s.did
	})
	return run, did
}

// at has something happen some time from now.
func (s *fakeSystem) at(d time.Duration, happen func()) {
	time.AfterFunc(d, func() {
		s.Lock()
		defer s.Unlock()
		happen()
	})
}

// send has a signal sent to us.
func (s *fakeSystem) send(d time.Duration, sig syscall.Signal) {
	time.AfterFunc(d, func() { s.signals <- sig })
}

func TestTheLoopKeepsTime(t *testing.T) {
	tenSeconds := Config{Policy: machine.Policy{Grace: 10 * time.Second}}
	for name, c := range map[string]struct {
		config   Config
		commands []string
		script   func(*fakeSystem)
		want     []string
	}{
		"a target that ignores the stop is killed after the grace, not before": {tenSeconds, nil,
			func(s *fakeSystem) { s.send(time.Second, unix.SIGTERM) },
			[]string{"1s group terminated", "11s killed 100", "11s done"}},
		"a target that ends in time ends the wait": {tenSeconds, nil,
			func(s *fakeSystem) { s.onTerm[targetPID] = 3 * time.Second; s.send(time.Second, unix.SIGTERM) },
			[]string{"1s group terminated", "4s survivors terminated", "4s done"}},
		"without a grace SIGKILL comes at once": {Config{}, nil,
			func(s *fakeSystem) { s.send(time.Second, unix.SIGTERM) },
			[]string{"1s group terminated", "1s killed 100", "1s done"}},
		"survivors have all of the grace when no stop had begun": {tenSeconds, nil,
			func(s *fakeSystem) {
				s.living[7] = true
				s.at(2*time.Second, func() { s.end(machine.Ending{}, targetPID) })
			},
			[]string{"2s survivors terminated", "12s killed 7", "12s done"}},
		"survivors have what a stop has left of it": {tenSeconds, nil,
			func(s *fakeSystem) {
				s.living[7] = true
				s.onTerm[targetPID] = 4 * time.Second
				s.send(time.Second, unix.SIGTERM)
			},
			[]string{"1s group terminated", "5s survivors terminated", "11s killed 7", "11s done"}},
		"no survivors, no wait": {tenSeconds, []string{"1s"},
			func(s *fakeSystem) { s.at(2*time.Second, func() { s.end(machine.Ending{}, targetPID) }) },
			[]string{"2s survivors terminated", "2s start 1s", "3s done"}},
		"what forks while it is killed is killed again": {Config{}, nil,
			func(s *fakeSystem) {
				s.living[7], s.immortal[7] = true, true
				s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
				s.at(2*time.Second, func() { delete(s.immortal, 7); s.living[8] = true; s.end(machine.Ending{}) })
			},
			[]string{"1s survivors terminated", "2s killed 7", "2s killed 8", "2s done"}},
		"survivors that may not be signalled are left": {Config{Policy: machine.Policy{Grace: time.Second}}, []string{"1s"},
			func(s *fakeSystem) {
				s.living[7], s.denied = true, true
				s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
			},
			[]string{"1s survivors terminated", "2s start 1s", "3s done"}},
		"survivors that SIGKILL does not end are left after a while": {Config{Policy: machine.Policy{Grace: time.Second}}, nil,
			func(s *fakeSystem) {
				s.living[7], s.immortal[7] = true, true
				s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
			},
			nil},
		"a command over its limit gets SIGTERM, then SIGKILL, and the next one runs": {tenSeconds, []string{"1s", "1h"},
			func(s *fakeSystem) { s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) }) },
			[]string{"1s survivors terminated", "1s start 1h", "31s command terminated", "33s command killed", "33s start 1s", "34s done"}},
		"one that acts on SIGTERM is not killed": {tenSeconds, []string{"1h"},
			func(s *fakeSystem) {
				s.onTerm[201] = time.Second
				s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
			},
			[]string{"1s survivors terminated", "1s start 1h", "31s command terminated", "32s done"}},
		"one that cannot be killed is left": {tenSeconds, []string{"1s", "1h"},
			func(s *fakeSystem) {
				s.immortal[201] = true
				s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
			},
			nil},
		"for want of a resource a command is tried again": {tenSeconds, []string{"1s"},
			func(s *fakeSystem) {
				s.startErr = []error{unix.EAGAIN, unix.ENOMEM, nil}
				s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
			},
			[]string{"1s survivors terminated", "1s fail 1s", "1.05s fail 1s", "1.1s start 1s", "2.1s done"}},
		"a missing program is not": {tenSeconds, []string{"1s", "2s"},
			func(s *fakeSystem) {
				s.startErr = []error{errors.New("none")}
				s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
			},
			[]string{"1s survivors terminated", "1s fail 2s", "1s start 1s", "2s done"}},
		"one that could not be started leaves no timer behind": {tenSeconds, []string{"40s", "2s"},
			func(s *fakeSystem) {
				s.startErr = []error{errors.New("none")}
				s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
			},
			[]string{"1s survivors terminated", "1s fail 2s", "1s start 40s", "31s command terminated", "33s command killed", "33s done"}},
		"one nudge may tell of many ends": {tenSeconds, []string{"1s"},
			func(s *fakeSystem) {
				s.living[7], s.living[8], s.living[9] = true, true, true
				s.at(time.Second, func() { s.end(machine.Ending{}, 7, 8, targetPID, 9) })
			},
			[]string{"1s survivors terminated", "1s start 1s", "2s done"}},
		"there may be more ends than are taken at a time": {tenSeconds, nil,
			func(s *fakeSystem) {
				var all []int
				for pid := range 3 * reapLimit {
					s.living[1000+pid] = true
					all = append(all, 1000+pid)
				}
				s.at(time.Second, func() { s.end(machine.Ending{}, append(all, targetPID)...) })
			},
			[]string{"1s survivors terminated", "1s done"}},
		"a stop that is undone at once stops nobody for good": {tenSeconds, nil,
			func(s *fakeSystem) {
				s.send(time.Second, unix.SIGTSTP)
				s.send(time.Second+time.Millisecond, unix.SIGCONT)
				s.at(2*time.Second, func() { s.end(machine.Ending{}, targetPID) })
			},
			[]string{"1s group stopped", "2s survivors terminated", "2s done"}},
		"nobody stops himself when the target has ended meanwhile": {tenSeconds, nil,
			func(s *fakeSystem) {
				s.living[7] = true
				s.send(time.Second, unix.SIGTSTP)
				s.at(time.Second+time.Millisecond, func() { s.end(machine.Ending{}, targetPID) })
			},
			[]string{"1s group stopped", "1.001s survivors terminated", "11.001s killed 7", "11.001s done"}},
		"job control stops the group, then us": {tenSeconds, nil,
			func(s *fakeSystem) {
				s.send(time.Second, unix.SIGTSTP)
				s.at(2*time.Second, func() { s.end(machine.Ending{}, targetPID) })
			},
			[]string{"1s group stopped", "1.1s suspend", "2s survivors terminated", "2s done"}},
	} {
		t.Run(name, func(t *testing.T) {
			run, did := simulate(t, c.config, c.commands, c.script)
			if run.State != machine.Done || len(run.Deadlines) > 0 {
				t.Errorf("it ended in %v, with deadlines %v", run.State, run.Deadlines)
			}
			if c.want != nil && !slices.Equal(did, c.want) {
				t.Errorf("it did\n\t%s\nwant\n\t%s", strings.Join(did, "\n\t"), strings.Join(c.want, "\n\t"))
			}
			for _, e := range run.Cleanup.Entries {
				if e.Progress != cleanup.Ended {
					t.Errorf("command %d is %v", e.ID, e.Progress)
				}
			}
		})
	}
}

// What ended before the stop signal was read did not end because of it.
func TestAnEndBeforeTheStopSignalIsNoStop(t *testing.T) {
	run, _ := simulate(t, Config{Policy: machine.Policy{Grace: time.Second}}, nil, func(s *fakeSystem) {
		s.at(time.Second, func() { // the nudge is still on its way
			delete(s.living, targetPID)
			s.zombies = append(s.zombies, targetPID)
		})
		s.send(2*time.Second, unix.SIGTERM)
	})
	if run.Reason() != "exited" {
		t.Errorf("the reason is %s", run.Reason())
	}
}

func TestHopelessSurvivorsAreWaitedForAsLongAsPromised(t *testing.T) {
	_, did := simulate(t, Config{}, nil, func(s *fakeSystem) {
		s.living[7], s.immortal[7] = true, true
		s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
	})
	at, _, _ := strings.Cut(did[len(did)-1], " ")
	took, err := time.ParseDuration(at)
	if err != nil || took < time.Second+machine.AbandonAfter || took > 2*time.Second+machine.AbandonAfter {
		t.Errorf("given up at %s", at)
	}
}

func TestWhereNoEndIsAnnouncedTheTreeIsLookedAt(t *testing.T) {
	run, _ := simulate(t, Config{Policy: machine.Policy{Grace: time.Hour}}, nil, func(s *fakeSystem) {
		s.polling = true
		s.living[7] = true
		s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
		s.at(time.Minute, func() { delete(s.living, 7) })
	})
	if run.Stop.Escalated {
		t.Error("nobody saw that the tree was empty before the grace was over")
	}
}

// While more end than can be taken at a time, those who give birth to them are killed all the same.
func TestAStormIsStruckBeforeItsDeadAreBuried(t *testing.T) {
	var sys *fakeSystem
	simulate(t, Config{}, nil, func(s *fakeSystem) {
		sys = s
		for pid := range 3 * reapLimit {
			s.living[1000+pid] = true
		}
		s.send(time.Second, unix.SIGTERM)
	})
	if sys.childKills == 0 {
		t.Error("nobody was")
	}
}
