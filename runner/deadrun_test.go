package runner

import (
	"slices"
	"strings"
	"testing"
	"time"

	"graceful/cleanup"
	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// recoverRun recovers the run r after graceful and its guard were killed, and returns the run at its end. sameBoot
// means that processes of the run may exist. retry is the argument of recover.
func recoverRun(t *testing.T, r Run, sameBoot, retry bool, script func(*watchedSystem)) (Run, *watchedSystem) {
	t.Helper()
	run, s, _ := perform(t, r, func(s *watchedSystem) { s.polling = true; script(s) }, func(l *loop) {
		l.recover(recordedRun{Replayed: journal.Replayed{Last: time.Hour}}, sameBoot, retry)
	})
	return run, s
}

// A run that is recovered before its target's end is recorded has the reason "recovered" and status 125. Its cleanup
// commands run.
func TestRecover_endOfTargetIsUnknown(t *testing.T) {
	for _, state := range []machine.State{machine.Starting, machine.Running, machine.Stopping, machine.Killing} {
		r := runIn(state)
		r.Cleanup.Commands = cleanup.Commands{}.Add(cleanup.AtExit, cleanup.Command{Text: "1s", Limit: time.Minute})
		run, s := recoverRun(t, r, true, false, func(*watchedSystem) {})
		if run.Reason() != "recovered" || run.Status() != 125 || run.Target.Duration != time.Hour ||
			slices.Contains(s.calls, "start target") {
			t.Errorf("%v: after %q the run is %+v", state, s.calls, run)
		}
		if !run.Cleanup.Entries.At(0).Outcome.Interrupted && run.Cleanup.Entries.At(0).Progress == cleanup.Ended {
			continue
		}
		t.Errorf("%v: %+v", state, run.Cleanup)
	}
}

// A claimed command may have run. So recover marks the command as interrupted, and runs it only with retry.
func TestRecover_interruptedCommand(t *testing.T) {
	for _, r := range []Run{claimedRun(cleanup.LIFO), startedRun(900)} {
		run, s := recoverRun(t, r, true, false, func(*watchedSystem) {})
		interrupted := run.Cleanup.Entries.At(2).Outcome.Interrupted
		if got := commandsStarted(s); got != "2s 1s" || !interrupted || run.State != machine.Done {
			t.Errorf("started %s; the run is %+v", got, run)
		}
		again, s := recoverRun(t, run, true, true, func(*watchedSystem) {})
		failed := again.Cleanup.Entries.At(2).Outcome.Failed()
		if got := commandsStarted(s); got != "3s" || failed || again.State != machine.Done {
			t.Errorf("after the retry: started %s; the run is %+v", got, again)
		}
		_, s = recoverRun(t, r, true, true, func(*watchedSystem) {})
		if got := commandsStarted(s); got != "3s 2s 1s" {
			t.Errorf("with the retry at once: started %s", got)
		}
	}
}

// recover waits for a command that is still running, whose exit status stays unknown. After a reboot another process
// may have the recorded pid, so the command counts as interrupted.
func TestRecover_commandStillRuns(t *testing.T) {
	r := startedRun(900)
	for _, sameBoot := range []bool{true, false} {
		run, s := recoverRun(t, r, sameBoot, false, func(s *watchedSystem) {
			s.others = []procfs.Process{child(300, 900)}
			s.at(5*time.Second, func() { s.others = nil })
		})
		if got := commandsStarted(s); got != "2s 1s" {
			t.Errorf("started %s", got)
		}
		last := run.Cleanup.Entries.At(2)
		unknown := strings.Contains(last.Outcome.Error, "its exit status is unknown")
		if last.Outcome.Interrupted == sameBoot || sameBoot && !unknown {
			t.Errorf("same boot %t: %+v", sameBoot, last)
		}
		if sameBoot && !strings.HasPrefix(s.trace[0], "5") {
			t.Errorf("graceful did not wait for the command: %q", s.trace)
		}
	}
}

// Without a recorded start time, recover does not take a process with the recorded pid for the command. It does not
// signal that process, and the command counts as interrupted.
func TestRecover_pidAlone(t *testing.T) {
	r := startedRun(0)
	for _, start := range []uint64{0, 900} {
		run, s := recoverRun(t, r, true, false, func(s *watchedSystem) {
			s.others = []procfs.Process{child(300, start)}
			s.at(5*time.Second, func() { s.others = nil })
		})
		signalled := func(call string) bool { return strings.HasPrefix(call, "all of") }
		if !run.Cleanup.Entries.At(2).Outcome.Interrupted || slices.ContainsFunc(s.calls, signalled) {
			t.Errorf("start time %d: after %q the commands are %+v", start, s.calls, run.Cleanup)
		}
	}
	r.Target.Start = 0
	if ids := recordedIdentities(r); len(ids) > 0 {
		t.Errorf("identified by pid alone: %+v", ids)
	}
}

// The time limit of a command that an earlier graceful has started remains in force. At the limit, SIGTERM and later
// SIGKILL go to the command and its descendants.
func TestRecover_commandKeepsItsLimit(t *testing.T) {
	r := startedRun(900)
	run, s := recoverRun(t, r, true, false, func(s *watchedSystem) { s.others = []procfs.Process{child(300, 900)} })
	if !run.Cleanup.Entries.At(2).TimedOut ||
		!slices.Contains(s.calls, "all of 300 SIGTERM") || !slices.Contains(s.calls, "all of 300 SIGKILL") {
		t.Errorf("after %q: %+v", s.calls, run.Cleanup.Entries.At(2))
	}
}
