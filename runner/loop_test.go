package runner

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/machine"
)

// timingCase contains a script for a fake system, and the expected actions of the loop.
type timingCase struct {
	config   Config
	commands []string // texts of the cleanup commands; a text such as "1s" is the run time of the command
	script   func(*fakeSystem)
	want     []string // actions with times; nil: only the end is checked
}

var tenSeconds = Config{Policy: machine.Policy{Grace: 10 * time.Second}}

// stopTimings contains cases in which a tree is emptied, after a stop or after the end of the target.
var stopTimings = map[string]timingCase{
	"a target that ignores the stop is killed after the grace, not before": {tenSeconds, nil,
		func(s *fakeSystem) { s.send(time.Second, unix.SIGTERM) },
		[]string{"1s group terminated", "11s killed 100", "11s done"}},
	"a target that ends in time ends the wait": {tenSeconds, nil,
		func(s *fakeSystem) { s.onTerm[targetPID] = 3 * time.Second; s.send(time.Second, unix.SIGTERM) },
		[]string{"1s group terminated", "4s survivors terminated", "4s done"}},
	"without a grace SIGKILL comes at once": {Config{}, nil,
		func(s *fakeSystem) { s.send(time.Second, unix.SIGTERM) },
		[]string{"1s group terminated", "1s killed 100", "1s done"}},
	"survivors have the whole grace without a stop": {tenSeconds, nil,
		func(s *fakeSystem) {
			s.living[7] = true
			s.at(2*time.Second, func() { s.end(machine.Ending{}, targetPID) })
		},
		[]string{"2s survivors terminated", "12s killed 7", "12s done"}},
	"survivors have the rest of a stop's grace": {tenSeconds, nil,
		func(s *fakeSystem) {
			s.living[7] = true
			s.onTerm[targetPID] = 4 * time.Second
			s.send(time.Second, unix.SIGTERM)
		},
		[]string{"1s group terminated", "5s survivors terminated", "11s killed 7", "11s done"}},
	"no survivors, no wait": {tenSeconds, []string{"1s"},
		func(s *fakeSystem) { s.at(2*time.Second, func() { s.end(machine.Ending{}, targetPID) }) },
		[]string{"2s survivors terminated", "2s start 1s", "3s done"}},
	"members that fork while they are killed are killed again": {Config{}, nil,
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
	"survivors that SIGKILL does not end are given up": {Config{Policy: machine.Policy{Grace: time.Second}}, nil,
		func(s *fakeSystem) {
			s.living[7], s.immortal[7] = true, true
			s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
		},
		nil},
}

// commandTimings contains cases with cleanup commands.
var commandTimings = map[string]timingCase{
	"a command over its limit gets SIGTERM, then SIGKILL, and the next one runs": {tenSeconds, []string{"1s", "1h"},
		func(s *fakeSystem) { s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) }) },
		[]string{
			"1s survivors terminated", "1s start 1h", "31s command terminated",
			"33s command killed", "33s start 1s", "34s done"}},
	"a command that ends on SIGTERM is not killed": {tenSeconds, []string{"1h"},
		func(s *fakeSystem) {
			s.onTerm[201] = time.Second
			s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
		},
		[]string{"1s survivors terminated", "1s start 1h", "31s command terminated", "32s done"}},
	"a command that SIGKILL does not end is given up": {tenSeconds, []string{"1s", "1h"},
		func(s *fakeSystem) {
			s.immortal[201] = true
			s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
		},
		nil},
	"after a lack of resources a command is tried again": {tenSeconds, []string{"1s"},
		func(s *fakeSystem) {
			s.startErr = []error{unix.EAGAIN, unix.ENOMEM, nil}
			s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
		},
		[]string{"1s survivors terminated", "1s fail 1s", "1.05s fail 1s", "1.1s start 1s", "2.1s done"}},
	"a missing program is not tried again": {tenSeconds, []string{"1s", "2s"},
		func(s *fakeSystem) {
			s.startErr = []error{errors.New("none")}
			s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
		},
		[]string{"1s survivors terminated", "1s fail 2s", "1s start 1s", "2s done"}},
	"a command that was not started leaves no timer": {tenSeconds, []string{"40s", "2s"},
		func(s *fakeSystem) {
			s.startErr = []error{errors.New("none")}
			s.at(time.Second, func() { s.end(machine.Ending{}, targetPID) })
		},
		[]string{
			"1s survivors terminated", "1s fail 2s", "1s start 40s",
			"31s command terminated", "33s command killed", "33s done"}},
}

// signalTimings contains cases with simultaneous ends, and with job control.
var signalTimings = map[string]timingCase{
	"one SIGCHLD stands for many ends": {tenSeconds, []string{"1s"},
		func(s *fakeSystem) {
			s.living[7], s.living[8], s.living[9] = true, true, true
			s.at(time.Second, func() { s.end(machine.Ending{}, 7, 8, targetPID, 9) })
		},
		[]string{"1s survivors terminated", "1s start 1s", "2s done"}},
	"more children end than one pass reaps": {tenSeconds, nil,
		func(s *fakeSystem) {
			var all []int
			for pid := range 3 * reapLimit {
				s.living[1000+pid] = true
				all = append(all, 1000+pid)
			}
			s.at(time.Second, func() { s.end(machine.Ending{}, append(all, targetPID)...) })
		},
		[]string{"1s survivors terminated", "1s done"}},
	"a suspension that is undone at once has no effect": {tenSeconds, nil,
		func(s *fakeSystem) {
			s.send(time.Second, unix.SIGTSTP)
			s.send(time.Second+time.Millisecond, unix.SIGCONT)
			s.at(2*time.Second, func() { s.end(machine.Ending{}, targetPID) })
		},
		[]string{"1s group stopped", "2s survivors terminated", "2s done"}},
	"graceful does not suspend itself if the target ends meanwhile": {tenSeconds, nil,
		func(s *fakeSystem) {
			s.living[7] = true
			s.send(time.Second, unix.SIGTSTP)
			s.at(time.Second+time.Millisecond, func() { s.end(machine.Ending{}, targetPID) })
		},
		[]string{"1s group stopped", "1.001s survivors terminated", "11.001s killed 7", "11.001s done"}},
	"job control suspends the group, then graceful": {tenSeconds, nil,
		func(s *fakeSystem) {
			s.send(time.Second, unix.SIGTSTP)
			s.at(2*time.Second, func() { s.end(machine.Ending{}, targetPID) })
		},
		[]string{"1s group stopped", "1.1s suspend", "2s survivors terminated", "2s done"}},
}

func TestLoop_timing(t *testing.T) {
	cases := maps.Clone(stopTimings)
	maps.Copy(cases, commandTimings)
	maps.Copy(cases, signalTimings)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			run, did := simulate(t, c.config, c.commands, c.script)
			if run.State != machine.Done || len(run.Deadlines) > 0 {
				t.Errorf("the run ended in state %v with deadlines %v", run.State, run.Deadlines)
			}
			if c.want != nil && !slices.Equal(did, c.want) {
				t.Errorf("the loop did\n\t%s\nwant\n\t%s", strings.Join(did, "\n\t"), strings.Join(c.want, "\n\t"))
			}
			for e := range run.Cleanup.Entries.All() {
				if e.Progress != cleanup.Ended {
					t.Errorf("command %d is %v", e.ID, e.Progress)
				}
			}
		})
	}
}

// If a target ended before the loop has read the stop signal, that signal does not count as the reason for the target's
// end.
func TestHandleNext_endBeforeStopSignal(t *testing.T) {
	run, _ := simulate(t, Config{Policy: machine.Policy{Grace: time.Second}}, nil, func(s *fakeSystem) {
		s.at(time.Second, func() { // SIGCHLD has not arrived yet
			delete(s.living, targetPID)
			s.zombies = append(s.zombies, targetPID)
		})
		s.send(2*time.Second, unix.SIGTERM)
	})
	if run.Reason() != "exited" {
		t.Errorf("the reason is %s", run.Reason())
	}
}
