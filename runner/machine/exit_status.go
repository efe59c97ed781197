package machine

// The exit statuses of graceful itself are those of timeout(1).
const (
	statusTimedOut = 124
	// StatusFailed is the exit status for a failure of graceful itself.
	StatusFailed = 125
)

// Status returns the exit status of graceful, 0 to 255. It is the target's status with two exceptions. After the time
// limit it is statusTimedOut, unless Policy.PreserveStatus or wasKilled is true. If a killed graceful is the reason for
// the stop, a target's status of 0 becomes StatusFailed.
//
// Policy.Remap replaces the result. If the status is 0 then, and a cleanup command has failed, FailOnCleanupError
// replaces the status by StatusFailed, which Policy.Remap may replace, too.
func (r Run) Status() int {
	status := r.Target.Ending.Status()
	switch {
	case r.Stop.TimedOut && !r.Policy.PreserveStatus && !r.wasKilled():
		status = statusTimedOut
	case r.Stop.PeerEnded && status == 0:
		status = StatusFailed
	}
	status = mapped(r.Policy.Remap, status)
	if status == 0 && r.Policy.FailOnCleanupError && r.Cleanup.Entries.Failed() > 0 {
		status = mapped(r.Policy.Remap, StatusFailed)
	}
	return status
}

// wasKilled reports whether SIGKILL from graceful ended the target. In that case the exit status is 128+9, even after
// the time limit, as in timeout(1).
func (r Run) wasKilled() bool {
	return r.Stop.Escalated && r.Target.Ending.Signal == SigKILL && !r.Target.GivenUp
}

// RaisedSignal returns the signal by which graceful ends itself. If it is 0, graceful exits with Status.
func (r Run) RaisedSignal() int {
	ending := r.Target.Ending
	own := r.Target.GivenUp || r.Stop.TimedOut && !r.Policy.PreserveStatus
	if r.Policy.Reraise && ending.Signal != 0 && !own && r.Status() == ending.Status() {
		return ending.Signal
	}
	return 0
}

// Reason returns the reason for the end of the run, for GRACEFUL_REASON and the report.
func (r Run) Reason() string {
	switch {
	case r.Stop.Recovered:
		return "recovered"
	case r.Stop.PeerEnded:
		return "orphaned"
	case r.Target.Failed:
		return "start-failed"
	case r.Stop.TimedOut:
		return "timed-out"
	case r.Stop.Signal != 0:
		return "stopped"
	case r.Target.Ending.Signal != 0:
		return "signaled"
	}
	return "exited"
}
