package runner

import (
	"context"
	"fmt"
	"log/slog"

	"graceful/runner/machine"
)

// namedSurvivors is the maximum number of survivors that the message of logSurvivors names.
const namedSurvivors = 10

// logSurvivors logs that the target has ended without a stop, and that graceful will stop the survivors. e is the event
// that was handled, and was the state before e. logSurvivors logs that even for a target that forks and ends, such as
// setsid(1) or a daemon. It logs only with --verbose, because listing the survivors takes time.
func (l *loop) logSurvivors(e machine.Event, was machine.State) {
	_, ended := e.(machine.TargetEnded)
	bySelf := ended && was == machine.Running && l.run.State == machine.Sweeping
	if !bySelf || l.run.Config.Survivors != machine.StopSurvivors || !l.log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	left := l.sys.Members()
	if len(left) == 0 {
		return
	}
	var names []string
	for _, p := range left[:min(len(left), namedSurvivors)] {
		names = append(names, fmt.Sprintf("%d (%s)", p.PID, p.Name))
	}
	l.log.Info("the target has ended by itself; stopping what it left behind", "count", len(left), "processes", names,
		"hint", "--survivors wait waits for them instead")
}
