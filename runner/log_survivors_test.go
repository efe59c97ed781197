package runner

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"graceful/runner/machine"
	"graceful/runner/procfs"
)

// listingSystem counts the calls that list the members.
type listingSystem struct {
	*fakeSystem
	lists int
}

func (s *listingSystem) Members() []procfs.Process {
	s.lists++
	return s.others
}

// The loop lists the members only with --verbose, and only if the target has ended without a stop and the run stops
// survivors. If there are survivors, the message contains their number and a few of their names.
func TestLogSurvivors(t *testing.T) {
	for name, c := range map[string]struct {
		level     slog.Level
		survivors machine.Survivors
		was       machine.State
		event     machine.Event
		left      int
		lists     int
		want      string
	}{
		"survivors": {slog.LevelInfo, machine.StopSurvivors, machine.Running, machine.TargetEnded{}, 12, 1, "count=12"},
		"none":      {slog.LevelInfo, machine.StopSurvivors, machine.Running, machine.TargetEnded{}, 0, 1, ""},
		"silent":    {slog.LevelWarn, machine.StopSurvivors, machine.Running, machine.TargetEnded{}, 12, 0, ""},
		"wait":      {slog.LevelInfo, machine.WaitSurvivors, machine.Running, machine.TargetEnded{}, 12, 0, ""},
		"a stop":    {slog.LevelInfo, machine.StopSurvivors, machine.Stopping, machine.TargetEnded{}, 12, 0, ""},
		"failed":    {slog.LevelInfo, machine.StopSurvivors, machine.Running, machine.TargetFailed{}, 12, 0, ""},
	} {
		var text bytes.Buffer
		s := &listingSystem{fakeSystem: newFakeSystem()}
		for pid := range c.left {
			s.others = append(s.others, procfs.Process{Identity: procfs.Identity{PID: 1000 + pid}, Name: "job"})
		}
		l := &loop{sys: s, log: slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: c.level}))}
		l.run.State, l.run.Config.Survivors = machine.Sweeping, c.survivors
		l.logSurvivors(c.event, c.was)
		if s.lists != c.lists || (text.Len() > 0) != (c.want != "") || !strings.Contains(text.String(), c.want) {
			t.Errorf("%s: listed %d times; logged %s", name, s.lists, &text)
		}
		if n := strings.Count(text.String(), "(job)"); n > namedSurvivors {
			t.Errorf("%s: it names %d", name, n)
		}
	}
}
