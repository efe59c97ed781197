package machine

import "graceful/cleanup"

// Next returns what an event makes of a run, and the actions that follow. It is pure: r, and all that r points to, stay
// as they were. TestNext_table compares these tables with the code.
//
//	state    | TargetStarted | TargetFailed | TargetEnded | TreeEmptied | Relayed   | Orphaned | Recovered
//	---------+---------------+--------------+-------------+-------------+-----------+----------+----------
//	Starting | run           | clean        |             |             |           | clean    | sweep
//	Running  |               |              | sweep       |             |           | stop     | sweep
//	Stopping |               |              | sweep [1]   |             |           |          | sweep
//	Killing  |               |              | sweep       |             |           |          | sweep
//	Sweeping |               |              |             | clean       |           | step [2] |
//	Cleaning |               |              |             | clean [3]   | clean [4] |          |
//	Done     |               |              |             |             |           |          |
//
//	state    | stop signal                 | other signal | TSTP TTIN TTOU | timeout | drain | grace | deadline
//	---------+-----------------------------+--------------+----------------+---------+-------+-------+---------
//	Starting |                             |              |                |         |       |       |
//	Running  | stop                        | forward      | suspend        | stop    |       |       |
//	Stopping | phase, kill [5]             | forward      | suspend        |         | step  | step  | kill
//	Killing  | count                       |              |                |         |       |       |
//	Sweeping | forward, step [2], kill [5] | forward      |                |         |       | step  | kill
//	Cleaning | count, cut [5]              |              |                |         |       |       |
//	Done     |                             |              |                |         |       |       |
//
//	state    | on-stop ends | cleanup ends | Exited    | Registered | Withdrawn | Retried
//	---------+--------------+--------------+-----------+------------+-----------+---------------
//	Starting |              |              |           | join       | withdraw  |
//	Running  |              | end          | start     | join       | withdraw  | restore
//	Stopping | end, next    | end          | start     | join       | withdraw  | restore
//	Killing  | end          | end          |           | join       | withdraw  | restore
//	Sweeping | end          | end          | start [2] | join       | withdraw  | restore
//	Cleaning | end          | end, clear   |           | refuse     | withdraw  | restore, clean
//	Done     | end          |              |           | refuse     | withdraw  | restore, clean
//
// An empty cell changes nothing. An arrow leads to a new state; without an arrow the state stays.
//
//	run       → Running. The timeout timer starts.
//	stop      → Stopping. The deadline timer starts; then next.
//	next      StartCommand for the next on-stop command. After the last one: sweep if the target has ended; else the
//	          drain timer starts; without a drain: step.
//	step      The next signal of the schedule, and its grace timer. After the last step: kill.
//	kill      → Killing, or → Sweeping if the target has ended. KillTree, and KillCommand for on-stop commands.
//	sweep     → Sweeping. Then the first that applies: after kill, KillTree; KeepSurvivors, LeaveSurvivors and clean;
//	          WaitSurvivors outside a stop, no action; before any step, step; WaitSurvivors, no action;
//	          SignalSurvivors.
//	clean     → Cleaning. Before the first command of a run with a pty: RelayRest. Else StartCommand for the next
//	          cleanup commands. After the last one: → Done.
//	phase     Notifying: the signal waits for the first step. Draining: step. Signalling: forward.
//	forward   ForwardSignal, or SignalSurvivors if the target has ended. No action for a signal rewritten to 0.
//	suspend   ForwardSignal and Suspend. A signal that is rewritten: forward.
//	count     Stop.Count grows, as it does for every stop signal from Running to Cleaning.
//	cut       TerminateCommand for running cleanup commands. KillCommand for those that have had SIGTERM.
//	end       The outcome is kept, the command's timers stop. KillCommand if it has a pid.
//	clear     After the last running command: KillTree. TreeEmptied follows.
//	start     StartCommand for the command that waits for this process.
//	join      The command is added, or refused: Answer. The deadline timer moves.
//	withdraw  The command is withdrawn, or it is too late: Answer. The deadline timer moves.
//	refuse    Answer: a refusal, or the id of a command that is registered already.
//	restore   Interrupted cleanup commands are pending again.
//
//	[1] While an on-stop command runs the state stays. The end of the command leads to sweep.
//	[2] Only while Waiting.
//	[3] Only while Cleanup.Clearing.
//	[4] Only while Cleanup.Relaying.
//	[5] Only with Policy.KillOnRepeat, from the second stop signal on.
//
// In Sweeping, signals and timers do nothing after kill. A drain or grace timer of another phase does nothing.
//
// A command ends by CommandEnded, by CommandFailed without Transient, or by its abandon timer. A cleanup command also
// ends by CommandLost. The events of a command do nothing unless it is claimed. In all states:
//
//	CommandStarted  The pid is kept.
//	CommandFailed   With Transient the retry timer starts. With a pid: no action.
//	retry timer     StartCommand. With a pid, or for an on-stop command outside Stopping: no action.
//	limit timer     TerminateCommand, and the kill timer starts. Without a pid the command ends.
//	kill timer      KillCommand, and the abandon timer starts.
func Next(r Run, e Event) (Run, []Action) {
	switch e := e.(type) {
	case TargetStarted:
		return r.targetStarted(e)
	case TargetFailed:
		return r.targetFailed(e.Status)
	case TargetEnded:
		return r.targetEnded(e)
	case TreeEmptied:
		if r.State == Sweeping || r.State == Cleaning && r.Cleanup.Clearing {
			return r.clean()
		}
	case Relayed:
		if r.Cleanup.Relaying {
			return r.clean()
		}
	case Signalled:
		return r.signalled(e)
	case TimeUp:
		return r.timeUp(e.Name)
	case Orphaned:
		return r.orphaned()
	case Recovered:
		return r.recovered(e)
	case Retried:
		return r.retried()
	case CommandStarted:
		if r.isClaimed(e.ID) {
			return r.update(e.ID, func(c *cleanup.Entry) { c.PID, c.Start = e.PID, e.Start }), nil
		}
	case CommandFailed:
		return r.commandFailed(e)
	case CommandEnded:
		return r.commandEnded(e)
	case CommandLost:
		if c, _ := r.Cleanup.Get(e.ID); r.isClaimed(e.ID) && c.When == cleanup.AtExit {
			return r.clearPID(e.ID).finish(e.ID, cleanup.Outcome{Interrupted: true})
		}
	case CommandTimer:
		if r.isClaimed(e.ID) {
			return r.commandTimer(e)
		}
	case Registered:
		return r.registered(e)
	case Withdrawn:
		return r.withdrawn(e)
	case Exited:
		return r.exited(e.ID)
	}
	return r, nil
}

func (r Run) targetStarted(e TargetStarted) (Run, []Action) {
	if r.State != Starting {
		return r, nil
	}
	r.State = Running
	r.Target.PID, r.Target.Start = e.PID, e.Start
	if r.Policy.Timeout > 0 {
		return r, []Action{startTimer{Timer{Name: TimeoutTimer}, r.Policy.Timeout}}
	}
	return r, nil
}

func (r Run) targetFailed(status int) (Run, []Action) {
	if r.State != Starting {
		return r, nil
	}
	r.Target.Ended, r.Target.Failed, r.Target.Ending = true, true, Ending{Code: status}
	return r.clean()
}

func (r Run) targetEnded(e TargetEnded) (Run, []Action) {
	if r.State < Running || r.State > Killing || r.Target.Ended {
		return r, nil
	}
	r.Target.Ended, r.Target.Ending, r.Target.Duration = true, e.Ending, e.After
	if r.State == Stopping && len(r.Cleanup.Running(cleanup.AtStop)) > 0 {
		return r, nil // the end of the on-stop command leads to sweep
	}
	return r.sweep()
}

func (r Run) orphaned() (Run, []Action) {
	switch {
	case r.State == Starting:
		r.Stop.Orphaned = true
		return r.targetFailed(StatusFailed)
	case r.State == Running:
		r.Stop.Orphaned = true
		return r.stop()
	case r.State == Sweeping && r.Waiting():
		r, todo := r.startDeadline()
		return r.nextStep(todo...)
	}
	return r, nil
}

// recovered ends a run whose processes of graceful were all killed. An on-stop command that still lives is a member of
// the tree.
func (r Run) recovered(e Recovered) (Run, []Action) {
	if r.State >= Sweeping {
		return r, nil
	}
	r.Stop.Recovered = true
	if r.State == Starting {
		r.State = Running
	}
	for _, id := range r.Cleanup.Running(cleanup.AtStop) {
		r = r.clearPID(id).update(id, func(c *cleanup.Entry) {
			c.Progress, c.Outcome = cleanup.Ended, cleanup.Outcome{Error: wasInterrupted, Interrupted: true}
		})
	}
	if r.Target.Ended {
		return r.sweep()
	}
	return r.targetEnded(TargetEnded{Ending: Ending{Code: StatusFailed}, After: e.After})
}
