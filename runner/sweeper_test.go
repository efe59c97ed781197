package runner

import (
	"slices"
	"strings"
	"testing"
	"time"

	"graceful/runner/machine"

	"golang.org/x/sys/unix"
)

func TestSweeper_givesUp(t *testing.T) {
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

func TestSweeper_polls(t *testing.T) {
	run, _ := simulate(t, Config{Policy: machine.Policy{Grace: time.Hour}}, nil, func(s *fakeSystem) {
		s.polling = true
		s.living[7] = true
		s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
		s.at(time.Minute, func() { delete(s.living, 7) })
	})
	if run.Stop.Escalated {
		t.Error("the empty tree was not noticed in the grace")
	}
}

// If more children end than one pass reaps, the remaining children are killed before all of them are reaped.
func TestReapAll_killsChildrenBeforeAllAreReaped(t *testing.T) {
	var sys *fakeSystem
	simulate(t, Config{}, nil, func(s *fakeSystem) {
		sys = s
		for pid := range 3 * reapLimit {
			s.living[1000+pid] = true
		}
		s.send(time.Second, unix.SIGTERM)
	})
	if sys.childKills == 0 {
		t.Error("KillChildren was not called")
	}
}

// A group is killed while its leader is a zombie. Until then no other group has the id.
func TestReapAll_groupIsKilledBeforeItsLeaderIsReaped(t *testing.T) {
	_, s := watched(t, Config{Policy: machine.Policy{Grace: time.Second}}, []string{"2s"}, func(s *watchedSystem) {
		s.send(time.Second, unix.SIGTERM)
	})
	for _, pid := range []int{targetPID, 201} {
		if !s.pinned[pid] {
			t.Errorf("no member was killed between the end of process %d and its reaping", pid)
		}
	}
}

// SIGKILL is repeated while the target may not be signalled, because it is set-user-ID. Its children may be signalled.
func TestKill_targetMayNotBeSignalled(t *testing.T) {
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

// A member that may not be signalled does not shorten the wait for the others.
func TestKill_someMembersMayNotBeSignalled(t *testing.T) {
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

// Without /proc no member is found. Then the tree counts as empty only after SIGKILL has had its time.
func TestKill_membersAreHidden(t *testing.T) {
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

// A check of the tree reads all of /proc. So it happens at each reported end, or at intervals if ends are not reported.
func TestSweeper_numberOfChecks(t *testing.T) {
	for name, c := range map[string]struct {
		polling  bool
		min, max int
	}{
		"ends are announced":     {false, 1, 10},
		"ends are not announced": {true, 60 * 10, 60*20 + 100}, // every 100 ms, two checks at most
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

// If more children end than one pass reaps, KillChildren is called only while the tree is being killed.
func TestReapAll_killsChildrenOnlyWhileKilling(t *testing.T) {
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
				t.Errorf("KillChildren was called %d times, done after %v", s.childKills, s.ended())
			}
		})
	}
}
