package machine

import "graceful/cleanup"

// Resume returns the actions with which another process resumes a run. The process before it may have been killed after
// a decision and before its action, so some actions are performed twice.
func Resume(r Run) (todo []Action) {
	switch {
	case r.State == Killing, r.State == Sweeping && r.Stop.Escalated:
		todo = []Action{KillTree{}}
	case r.State == Sweeping && r.Waiting():
	case r.State == Sweeping, r.State == Stopping && r.Stop.Phase == Signalling:
		todo = r.forwardSignal(r.stepSignal(), true)
	case r.State == Cleaning && r.Keeps() && !r.Stop.Escalated:
		todo = []Action{LeaveSurvivors{}}
	}
	switch {
	case r.Cleanup.Relaying:
		return append(todo, RelayRest{})
	case r.Cleanup.Clearing:
		return append(todo, KillTree{})
	}
	for _, c := range r.Cleanup.Entries {
		switch {
		case c.Progress != cleanup.Claimed:
		case c.PID == 0 && r.Starts(c.When):
			todo = append(todo, StartCommand{c.ID})
		case c.PID == 0:
		case !r.Starts(c.When):
			todo = append(todo, KillCommand{c.ID})
		case c.TimedOut || c.Cut:
			todo = append(todo, TerminateCommand{c.ID})
		}
	}
	return todo
}
