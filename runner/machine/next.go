package machine

import (
	"slices"
	"time"

	"graceful/cleanup"
)

// Next returns the run after an event, and the actions that follow. It is pure: it does not change r, or data that r
// points to. TestNext_table compares these tables with the code.
//
//	state    | TargetStarted | TargetFailed | TargetEnded | TargetGivenUp | TreeEmptied | Relayed   | PeerEnded
//	---------+---------------+--------------+-------------+---------------+-------------+-----------+----------
//	Starting | run           | clean        |             |               |             |           | clean
//	Running  |               | sweep        | sweep       |               |             |           | stop
//	Stopping |               | sweep [1]    | sweep [1]   |               |             |           |
//	Killing  |               | sweep        | sweep       | sweep         |             |           |
//	Sweeping |               |              |             |               | clean       |           | step [2]
//	Cleaning |               |              |             |               | clean [3]   | clean [4] |
//	Done     |               |              |             |               |             |           |
//
//	state    | stop signal                 | other signal | TSTP TTIN TTOU | timeout  | drain | grace | deadline
//	---------+-----------------------------+--------------+----------------+----------+-------+-------+---------
//	Starting |                             |              |                |          |       |       |
//	Running  | stop                        | forward      | suspend        | stop     |       |       |
//	Stopping | phase, kill [5]             | forward      | suspend        |          | step  | step  | kill [1]
//	Killing  | count                       |              |                |          |       |       |
//	Sweeping | forward, step [2], kill [5] | forward      |                | step [2] |       | step  | kill
//	Cleaning | count, cut [5]              |              |                |          |       |       |
//	Done     |                             |              |                |          |       |       |
//
//	state    | on-stop ends | cleanup ends | ProcessExited | Registered | Withdrawn | Retried        | Recovered
//	---------+--------------+--------------+---------------+------------+-----------+----------------+----------
//	Starting |              |              |               | join       | withdraw  |                | sweep
//	Running  |              | end          | start         | join       | withdraw  | restore        | sweep
//	Stopping | end, next    | end          | start         | join       | withdraw  | restore        | sweep
//	Killing  | end          | end          |               | join       | withdraw  | restore        | sweep
//	Sweeping | end          | end          | start [2]     | join       | withdraw  | restore        |
//	Cleaning | end          | end, clear   |               | refuse     | withdraw  | restore, clean |
//	Done     | end          |              |               | refuse     | withdraw  | restore, clean |
//
// An empty cell changes nothing. An arrow leads to a new state; without an arrow the state stays.
//
//	run       → Running. The timeout timer starts.
//	stop      → Stopping. The deadline timer starts; then next.
//	next      StartCommand for the next on-stop command. After the last one: sweep if the target has ended; else the
//	          drain timer starts; without a drain: step.
//	step      The next signal of the schedule, and its grace timer. After the last step: kill.
//	kill      → Killing and KillTree, or sweep if the target has ended. KillCommand for on-stop commands.
//	sweep     → Sweeping. Then the first that applies:
//	          if KeepsSurvivors is true: LeaveSurvivors and clean; after kill: KillTree;
//	          if WaitsForSurvivors is true, outside a stop: no action; before the first step: step;
//	          with WaitSurvivors, unless Recovered came: no action; otherwise: SignalSurvivors.
//	clean     → Cleaning. Before the first command of a run with a pty: RelayRest. Else StartCommand for the next
//	          cleanup commands. After the last one: → Done.
//	phase     PhaseOnStop: the signal waits for the first step. PhaseDrain: step. PhaseSignals: forward.
//	forward   ForwardSignal, or SignalSurvivors if the target has ended. No action for a signal rewritten to 0. For a
//	          stop, survivors get SIGTERM; they get it a second time only for a repeated stop signal.
//	suspend   ForwardSignal and Suspend. A signal that is rewritten: forward.
//	count     Stop.Count grows up to 2, as it does for each stop signal from Running to Cleaning. The deadline begins
//	          unless it has begun. The first stop signal starts the same-stop timer. While that timer runs, a further
//	          stop signal does not count: the target gets each kind once. With RepeatIgnore a repeated stop signal
//	          changes nothing.
//	cut       TerminateCommand for running cleanup commands. KillCommand for those that have received SIGTERM.
//	end       The outcome is recorded, the command's timers stop. KillCommand if it has a pid. With
//	          Policy.UnstartedDelayed, a cleanup command that was not started before Cleaning becomes pending again.
//	clear     After the last running command: KillTree. TreeEmptied follows.
//	start     StartCommand for the command that waits for this process.
//	join      The command is added, or refused: Answer. The deadline timer moves.
//	withdraw  The command is withdrawn, or it is too late: Answer. The deadline timer moves.
//	refuse    Answer: a refusal, or the id of a command that is registered already.
//	restore   Cleanup commands that were not started become pending again; after Retried, interrupted ones, too.
//
//	[1] While an on-stop command runs the state stays. The end of the command leads to sweep.
//	[2] Only while WaitsForSurvivors.
//	[3] Only while Cleanup.Clearing.
//	[4] Only while Cleanup.Relaying.
//	[5] Only with RepeatKill, from the second stop signal on.
//
// In Sweeping after kill, a stop signal only counts, and the other signals and timers of the tables do nothing. A drain
// or grace timer of another phase does nothing.
//
// A command ends by CommandEnded, by CommandFailed without Transient, by its abandon timer, or by its limit timer if it
// has no pid. A cleanup command also ends by CommandLost, and without a pid by cut. An on-stop command also ends by
// Recovered, and without a pid by kill. The start, the timers and the ends of a command do nothing unless the command
// is claimed. In all states:
//
//	CommandStarted  The pid is recorded. The limit timer starts again: until now it limited the start.
//	CommandFailed   With Transient the retry timer starts; with Transient and a pid: no action.
//	retry timer     StartCommand. With a pid, or for an on-stop command outside Stopping: no action.
//	limit timer     TerminateCommand, and the kill timer starts. Without a pid the command ends.
//	kill timer      KillCommand, and the abandon timer starts.
func Next(r Run, e Event) (Run, []Action) {
	d := decision{Run: r}
	switch e := e.(type) {
	case TargetStarted:
		d.targetStarted(e)
	case TargetFailed:
		d.targetFailed(e.Status)
	case TargetEnded:
		d.targetEnded(e)
	case TargetGivenUp:
		d.targetGivenUp(e.After)
	case TreeEmptied:
		if d.State == Sweeping || d.State == Cleaning && d.Cleanup.Clearing {
			d.clean()
		}
	case Relayed:
		if d.Cleanup.Relaying {
			d.clean()
		}
	case Signalled:
		d.signalled(e)
	case Sent:
		if e.Step = d.Stop.Step; !d.wasSent(e.Signal, e.All) {
			d.Stop.Sent = append(slices.Clip(d.Stop.Sent), e)
		}
	case TimeUp:
		d.timeUp(e.Name)
	case PeerEnded:
		d.peerEnded()
	case Recovered:
		d.recovered(e)
	case Retried:
		d.retried(true)
	case RetriedUnstarted:
		d.retried(false)
	case CommandStarted:
		d.commandStarted(e)
	case CommandFailed:
		d.commandFailed(e)
	case CommandEnded:
		d.commandEnded(e)
	case CommandLost:
		if c, _ := d.Cleanup.Get(e.ID); d.isClaimed(e.ID) && c.When == cleanup.AtExit {
			d.finish(e.ID, cleanup.Outcome{Interrupted: true})
		}
	case CommandTimer:
		if d.isClaimed(e.ID) {
			d.commandTimer(e)
		}
	case Registered:
		d.registered(e)
	case Withdrawn:
		d.withdrawn(e)
	case ProcessExited:
		d.processExited(e.ID)
	}
	return d.Run, d.actions
}

func (d *decision) targetStarted(e TargetStarted) {
	if d.State != Starting {
		return
	}
	d.State, d.Target.PID, d.Target.Start = Running, e.PID, e.Start
	if d.Policy.Timeout > 0 {
		d.emit(timer(TimeoutTimer, 0, d.Policy.Timeout))
	}
}

// targetFailed ends a target that could not be started. A TargetStarted may have come before.
func (d *decision) targetFailed(status int) {
	switch {
	case d.State == Starting:
		d.Target.Ended, d.Target.Failed, d.Target.Ending = true, true, Ending{Code: status}
		d.clean()
	case d.State <= Killing && !d.Target.Ended:
		d.Target.Failed = true
		d.targetEnded(TargetEnded{Ending: Ending{Code: status}})
	}
}

func (d *decision) targetEnded(e TargetEnded) {
	if d.State < Running || d.State > Killing || d.Target.Ended {
		return
	}
	d.Target.Ended, d.Target.Ending, d.Target.Duration = true, e.Ending, e.After
	if d.State == Stopping && len(d.Cleanup.Running(cleanup.AtStop)) > 0 {
		return // the end of the on-stop command leads to sweep
	}
	d.sweep()
}

// targetGivenUp continues the run without the target, which has not ended after SIGKILL.
func (d *decision) targetGivenUp(after time.Duration) {
	if d.State == Killing {
		d.Target.GivenUp = true
		d.targetEnded(TargetEnded{Ending: Ending{Signal: SigKILL}, After: after})
	}
}

func (d *decision) peerEnded() {
	switch {
	case d.State == Starting:
		d.Stop.PeerEnded = true
		d.targetFailed(StatusFailed)
	case d.State == Running:
		d.Stop.PeerEnded = true
		d.stop()
	case d.State == Sweeping && d.WaitsForSurvivors():
		d.startDeadline()
		d.emit(stopTimers(0, TimeoutTimer)...)
		d.nextStep()
	}
}

// recovered ends the tree of a run after the processes of graceful that performed the run were killed. An on-stop
// command that is still alive counts as a member of the tree.
func (d *decision) recovered(e Recovered) {
	if d.State >= Sweeping {
		return
	}
	d.Stop.Recovered = true
	d.State = max(d.State, Running)
	for _, id := range d.Cleanup.Running(cleanup.AtStop) {
		d.end(id, cleanup.Outcome{Error: interruptedError, Interrupted: true})
	}
	if d.Target.Ended {
		d.sweep()
	} else {
		d.targetEnded(TargetEnded{Ending: Ending{Code: StatusFailed}, After: e.After})
	}
}

// Resume returns the actions with which another process resumes a run. The earlier process may have been killed between
// a decision and its action. So some actions may be performed twice. Resume omits a stop signal of the present step
// that Sent has recorded.
func Resume(r Run) []Action {
	d := decision{Run: r}
	switch {
	case r.State == Killing, r.State == Sweeping && r.Stop.Escalated:
		d.emit(KillTree{})
	case r.State == Sweeping && r.WaitsForSurvivors():
	case r.State == Sweeping:
		d.askSurvivors()
	case r.State == Stopping && r.Stop.Phase == PhaseSignals:
		for _, sig := range r.stepSignals() {
			if !r.wasSent(sig, false) {
				d.forwardSignal(sig, true)
			}
		}
	case r.State == Cleaning && r.Policy.Survivors == KeepSurvivors:
		d.emit(LeaveSurvivors{})
	}
	switch {
	case r.Cleanup.Relaying:
		return append(d.actions, RelayRest{})
	case r.Cleanup.Clearing:
		return append(d.actions, KillTree{})
	}
	for c := range r.Cleanup.Entries.All() {
		switch {
		case c.Progress != cleanup.Claimed:
		case c.PID == 0 && r.MayStart(c.When):
			d.emit(StartCommand{c.ID})
		case c.PID == 0:
		case !r.MayStart(c.When):
			d.emit(KillCommand{c.ID})
		case c.TimedOut || c.Cut:
			d.emit(TerminateCommand{c.ID})
		}
	}
	return d.actions
}
