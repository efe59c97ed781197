package runner

import (
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/registry"
	"graceful/runner/machine"
	"graceful/runner/procfs"
	"graceful/runner/report"
)

// system is the interface between the loop and the operating system.
type system interface {
	starter
	reaper
	members
	signals
	killer
	jobs
	waiter
	finisher
}

type (
	// starter starts processes.
	starter interface {
		startTarget(Run) (pid int, err error)
		startCommand(Run, cleanup.Entry) (pid int, discarded cleanup.Outputs, err error)
		cleaning() // from now on graceful starts only cleanup commands
	}
	// reaper examines children that have ended, and reaps them.
	reaper interface {
		peek() (pid int, ending machine.Ending, childless bool)
		startOf(pid int) (dirGone bool, err error) // of a child that peek has returned
		usage(pid int) *machine.Usage              // of a child that peek has returned
		reap(pid int)
		// reapOrphans reaps the children that have ended and that are orphans. It calls reaped for each.
		reapOrphans(isOrphan func(pid int) bool, reaped func(pid int, ending machine.Ending))
		lostGuard() (lost, orphaned bool) // orphaned: graceful is not an ancestor of the tree
		isGuardChild() bool               // or there is no guard; else no signal reports that the guard was suspended
		raisePriority()                   // more processes end than graceful can reap in its share of the time
	}
	// members finds the members of the run. tree.Tree implements it.
	members interface {
		Members() []procfs.Process    // alive
		Children() []procfs.Process   // dead or alive
		Child(pid int) procfs.Process // dead or alive; Start is 0 if it is hidden
		Alive(procfs.Identity) bool
		UserOf(pid int) (uid int) // -1: unknown
		Exempt(pid int)           // this child is a cleanup command, and not a member
		Keep(variable string)     // excludes the present members; from now on, a member has the variable
		Disband() error           // removes the run's cgroup
		Until(time.Time)          // time at which a look at the tree ends with a partial result; zero: no limit
		IsLate() bool             // the time of Until has passed

		OnlyGroupOf(target procfs.Identity) // for a tree that findOrphaned has found
	}
	// signals sends signals other than SIGKILL.
	signals interface {
		signalGroup(syscall.Signal) error
		stopGroup(syscall.Signal) error // for a stop signal
		NoteReceivers()                 // notes the receivers of stopGroup, and signalRest then omits them
		signalTarget(syscall.Signal) error
		signalSurvivors(...syscall.Signal)
		signalRest(...syscall.Signal)
		signalCommand(pid int, sig syscall.Signal)
		LastStop() procfs.Moment // a moment just before stopGroup or signalRest
		stopBegun(stopOn []int)  // the stop was begun by one of these signals
		WasStopped(sig syscall.Signal, all bool, at procfs.Moment)
	}
	// killer empties the tree. tree.Tree implements it.
	killer interface {
		Kill() (found, denied []procfs.Process) // denied: those that graceful may not signal
		KillGroup() (found, denied []procfs.Process)
		KillChildren()     // without examining each of them
		KillBelow(pid int) // kills a child's group and descendants
		SignalAll(procfs.Identity, syscall.Signal)
		SignalOrphans(...syscall.Signal)
		SignalOutsiders()
		Empty(childless bool) bool
		ReportsEnds() bool // reports whether graceful gets each member's end as the end of a child
	}
	// jobs is job control.
	jobs interface {
		suspend()
		suspendedBy(target int) syscall.Signal
		Suspended(pid int) bool
		answerSuspension(target int, sig syscall.Signal) (what string)
		continued(target int)
		reclaimTerminal(target int, sig syscall.Signal) bool
		targetEnded(r Run)
		predecessorEnded(target int)
	}
	// waiter identifies processes that graceful has not started, or that make requests.
	waiter interface {
		started() map[int]int                         // pids of the processes that the guard has started, by command id
		discarded(id int) cleanup.Outputs             // discarded outputs of a command in started
		findOrphaned(Run) error                       // replaces the tree by one that descends from no process of graceful
		setTarget(Run)                                // sets a target that another process of graceful has started
		isOtherCommand(p procfs.Process, id int) bool // p certainly belongs to another command
		isCommand(p procfs.Process, id int) bool      // p belongs to this command, as far as is known
		member(pid int, start uint64, asker int) (procfs.Process, error)
		awaitExit(procfs.Identity) bool // reports whether the loop will get the end of the process
		admit(registry.Call) error      // nil: the process is admitted
	}
	// finisher performs the last steps of a run, and sends messages about them.
	finisher interface {
		tell(assignments ...string) // sends a message to the service manager: see sd_notify(3)
		relayRest(r Run, stopping bool) (relayed <-chan struct{})
		writeReport(Run, *report.History) error
	}
)
