package runner

import (
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"graceful/forward"
	"graceful/runner/machine"
)

// A suspended process handles a signal only after it is continued. So graceful sends SIGCONT after a stop signal.
func TestForward_stopSignalsAreFollowedByCONT(t *testing.T) {
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
		"survivors SIGTERM", "survivors SIGCONT", "survivors SIGTERM", "survivors SIGCONT", "survivors SIGHUP",
		"cleaning", "start 1h", "command SIGTERM", "command SIGCONT", "command SIGKILL",
		"command SIGKILL", // to the rest of its group
	}
	if !slices.Equal(s.calls, want) {
		t.Errorf("the loop did\n\t%s\nwant\n\t%s", strings.Join(s.calls, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// graceful sends a stop signal and SIGCONT, then records the stop signal, and only then lists the members, because
// listing takes long. After the record, a successor of graceful sends neither signal a second time.
func TestForward_isRecordedAtOnce(t *testing.T) {
	_, s := watched(t, Config{Policy: machine.Policy{Grace: 2 * time.Second}}, nil, func(s *watchedSystem) {
		s.notes = true
		s.send(time.Second, unix.SIGINT)
		s.at(2*time.Second, func() { s.end(machine.Ending{}, targetPID) })
	})
	want := []string{"start target", "group SIGINT", "group SIGCONT", "record", "look"}
	if got := s.calls[:min(len(s.calls), len(want))]; !slices.Equal(got, want) {
		t.Errorf("the loop did %q, want %q", got, want)
	}
}

func TestHandleSignal_duringCleanup(t *testing.T) {
	signals := []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGTSTP}
	run, s := watched(t, Config{Policy: machine.Policy{Grace: time.Second}}, []string{"10s"}, func(s *watchedSystem) {
		endsAfter(time.Second)(s)
		for i, sig := range signals {
			s.send(time.Duration(2+i)*time.Second, sig)
		}
	})
	want := []string{"1s survivors terminated", "1s start 10s", "11s done"}
	if !slices.Equal(s.trace, want) || run.Reason() != "exited" {
		t.Errorf("the loop did %q, reason %s, want %q", s.trace, run.Reason(), want)
	}
	for _, sig := range signals {
		if !slices.ContainsFunc(s.logged, func(r slog.Record) bool {
			named := false
			r.Attrs(func(a slog.Attr) bool {
				named = named || a.Key == "signal" && "SIG"+a.Value.String() == unix.SignalName(sig)
				return true
			})
			return r.Level == slog.LevelInfo && r.Message == "received signal" && named
		}) {
			t.Errorf("%v is not in the log", sig)
		}
	}
}

// If a target has ended when the grace period is over, graceful does not kill it, even if SIGCHLD has not arrived yet.
func TestHandleTimers_endBeforeGraceTimer(t *testing.T) {
	run, s := watched(t, Config{Policy: machine.Policy{Grace: 10 * time.Second}}, nil, func(s *watchedSystem) {
		s.send(time.Second, unix.SIGTERM)
		s.at(5*time.Second, func() { // without a SIGCHLD
			delete(s.living, targetPID)
			s.zombies = append(s.zombies, targetPID)
		})
	})
	if run.Stop.Escalated || !slices.Equal(s.warnings(), []string{"waiting"}) {
		t.Errorf("escalated: %t, warnings %q", run.Stop.Escalated, s.warnings())
	}
}

func TestLogTimeUp_noGraceIsNoWarning(t *testing.T) {
	for grace, want := range map[time.Duration]int{0: 0, time.Second: 1} {
		_, s := watched(t, Config{Policy: machine.Policy{Grace: grace}}, nil, func(s *watchedSystem) {
			s.send(time.Second, unix.SIGTERM)
		})
		if got := s.warnings(); len(got) != want {
			t.Errorf("grace %v: warnings %q, want %d", grace, got, want)
		}
	}
}

// Advance does not change the deadlines of other copies of the run.
func TestDeadlines_notSharedByCopies(t *testing.T) {
	shown := machineIn(machine.Running)
	shown.Deadlines = []machine.Deadline{
		{Timer: machine.Timer{Name: machine.LimitTimer, ID: 7}, At: time.Unix(7, 0)},
		{Timer: machine.Timer{Name: machine.LimitTimer, ID: 8}, At: time.Unix(8, 0)},
	}
	before := slices.Clone(shown.Deadlines)
	r, _ := machine.Advance(shown, machine.Signalled{Signal: 15, Meaning: forward.Stop}, time.Unix(100, 0))
	if n := len(r.Deadlines); n != 4 {
		t.Errorf("%d deadlines, want 4: %v", n, r.Deadlines)
	}
	r, _ = machine.Advance(r, machine.CommandTimer{ID: 7, Name: machine.LimitTimer}, time.Unix(101, 0))
	if n := len(r.Deadlines); n != 3 {
		t.Errorf("%d deadlines, want 3: %v", n, r.Deadlines)
	}
	if !slices.Equal(shown.Deadlines, before) {
		t.Errorf("deadlines %v became %v", before, shown.Deadlines)
	}
	// If a timer that is already running is started again, only one timer runs.
	r, _ = machine.Advance(r, machine.TargetEnded{Ending: machine.Ending{}, After: 0}, time.Unix(102, 0))
	if n := len(r.Deadlines); n != 3 || r.Deadlines[2].At != time.Unix(100, 0).Add(r.Policy.Grace) {
		t.Errorf("the grace timer was not kept: %v", r.Deadlines)
	}
}

// complete resumes a run after a takeover. It starts no second target.
func TestComplete_startsNoTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWatchedSystem(t)
		s.living[targetPID] = true
		r := runIn(machine.Running)
		s.at(time.Second, func() { s.end(machine.Ending{Code: 4}, targetPID) })
		l := loopOn(s, r)
		if run := l.complete(); run.Status() != 4 || slices.Contains(s.calls, "start target") {
			t.Errorf("after %q the run is %+v", s.calls, run)
		}
	})
}

// The service manager learns of a stop when the stop begins, even if the time limit, and not a signal, has begun it.
func TestNotifyEnd_atTheTimeLimit(t *testing.T) {
	config := Config{Policy: machine.Policy{Grace: 10 * time.Second, Timeout: time.Second}}
	_, s := watched(t, config, nil, func(s *watchedSystem) {
		s.at(3*time.Second, func() { s.end(machine.Ending{}, targetPID) })
	})
	if at, sent := s.notified["STOPPING=1"]; !sent || at != time.Second {
		t.Errorf("STOPPING=1 was sent after %v (%t), want 1s", at, sent)
	}
}
