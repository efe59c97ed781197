package runner

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/machine"
)

// The loop finds a command by pid only while the command is running, because pids are reused.
func TestHandleEnd_reusedPID(t *testing.T) {
	for name, pids := range map[string][]int{
		"the target's for a command":       {targetPID, 300},
		"the first command's for a second": {300, 300},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Policy: machine.Policy{Order: cleanup.FIFO}}
			run, s := watched(t, config, []string{"1s", "2s"}, func(s *watchedSystem) {
				s.nextPIDs = pids
				endsAfter(time.Second)(s)
			})
			want := []string{"1s survivors terminated", "1s start 1s", "2s start 2s", "4s done"}
			if !slices.Equal(s.trace, want) {
				t.Errorf("the loop did %q, want %q", s.trace, want)
			}
			if run.Target.Duration != time.Second {
				t.Errorf("the target took %v, want 1s", run.Target.Duration)
			}
		})
	}
}

// The loop handles the ends of parallel commands that end at the same time, with one SIGCHLD for all of them.
func TestReapAll_parallelCommandsEndTogether(t *testing.T) {
	config := Config{Policy: machine.Policy{Order: cleanup.Parallel}}
	run, s := watched(t, config, []string{"1s", "1s", "2s", "2s"}, endsAfter(time.Second))
	want := []string{"1s survivors terminated", "1s start 1s", "1s start 1s", "1s start 2s", "1s start 2s", "3s done"}
	if !slices.Equal(s.trace, want) {
		t.Errorf("the loop did %q, want %q", s.trace, want)
	}
	for c := range run.Cleanup.Entries.All() {
		if c.Progress != cleanup.Ended || c.Outcome.Failed() {
			t.Errorf("command %d: %+v", c.ID, c)
		}
	}
}

func TestStartTarget_failureRunsCleanup(t *testing.T) {
	for err, status := range map[error]int{unix.ENOENT: 127, unix.EACCES: 126, unix.EAGAIN: 125} {
		run, s := watched(t, Config{}, []string{"1s"}, func(s *watchedSystem) { s.targetErr = err })
		want := []string{"0s start 1s", "1s done"}
		if !slices.Equal(s.trace, want) || run.Status() != status || run.Reason() != "start-failed" {
			t.Errorf("%v: the loop did %q; status %d, reason %s", err, s.trace, run.Status(), run.Reason())
		}
	}
}

// On a slow file system a start may fail after the loop has seen the process. If the start of the target fails late,
// the run ends as start-failed. If the start of a command fails late, the command has failed, and the next one runs.
func TestHandleEnd_startFailsLate(t *testing.T) {
	script := func(s *watchedSystem) {
		s.failed = map[int]error{targetPID: unix.EIO, 201: unix.EMFILE}
		endsAfter(time.Second)(s)
	}
	run, s := watched(t, Config{}, []string{"1s", "2s"}, script)
	want := []string{"1s survivors terminated", "1s start 2s", "3s start 1s", "4s done"}
	if !slices.Equal(s.trace, want) || run.Status() != 126 || run.Reason() != "start-failed" {
		t.Errorf("the loop did %q; status %d, reason %s", s.trace, run.Status(), run.Reason())
	}
	late, next := run.Cleanup.Entries.At(1), run.Cleanup.Entries.At(0)
	if late.Outcome.Error == "" || next.Outcome.Failed() {
		t.Errorf("the command is %+v, the next one %+v", late, next)
	}
}

// The start of a command is tried again until the command's time limit is over. Then the next command runs.
func TestStartCommand_resourcesNeverReturn(t *testing.T) {
	run, s := watched(t, Config{}, []string{"1s", "never"}, func(s *watchedSystem) {
		s.startErr = slices.Repeat([]error{unix.EAGAIN}, int(30*time.Second/machine.RetryAfter))
		endsAfter(time.Second)(s)
	})
	if got := s.ended(); got != 32*time.Second {
		t.Errorf("done after %v, want 32s", got)
	}
	never, next := run.Cleanup.Entries.At(1), run.Cleanup.Entries.At(0)
	if !never.Outcome.Failed() || next.Outcome.Failed() {
		t.Errorf("the command is %+v, the next one %+v", never, next)
	}
}

// If SIGKILL does not end a command, graceful stops waiting after a fixed time, and runs the next command.
func TestSignalCommand_commandSurvivesSIGKILL(t *testing.T) {
	run, s := watched(t, Config{}, []string{"1s", "1h"}, func(s *watchedSystem) {
		s.immortal[201] = true
		endsAfter(time.Second)(s)
	})
	// least contains the time AbandonAfter for the command. It may pass a second time, for the remaining members.
	least := time.Second + 30*time.Second + machine.CommandKillAfter + machine.AbandonAfter
	started := slices.IndexFunc(s.trace, func(did string) bool { return strings.HasSuffix(did, " start 1s") })
	if started < 0 {
		t.Fatalf("the next command did not run: %q", s.trace)
	}
	at, err := time.ParseDuration(strings.TrimSuffix(s.trace[started], " start 1s"))
	if err != nil || at < least || at > least+machine.AbandonAfter+time.Second {
		t.Errorf("the next command ran after %v, want at least %v and at most one more wait", at, least)
	}
	if o := run.Cleanup.Entries.At(1).Outcome; o.Error == "" {
		t.Errorf("the outcome is %+v", o)
	}
}
