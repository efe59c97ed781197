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
	guardWatcher
	memberFinder
	memberScope
	signaller
	stopRecorder
	killer
	orphanSignaller
	suspender
	foregroundKeeper
	identifier
	successor
	finisher
}

type (
	// starter starts processes.
	starter interface {
		startTarget(Run) (pid int, err error)
		startCommand(Run, cleanup.Entry) (pid int, discarded cleanup.Outputs, err error)
		prepareCleaning() // prepares graceful for cleanup, during which it starts only cleanup commands
	}
	// reaper examines children that have ended, and reaps them.
	reaper interface {
		peek() (pid int, ending machine.Ending, childless bool)
		startOf(pid int) (dirGone bool, err error) // returns the result of the start of a child from peek
		usage(pid int) *machine.Usage              // returns the resources that a child from peek has used; nil: unknown
		reap(pid int)
		// reapOrphans reaps the children that have ended and that are orphans. It calls reaped for each.
		reapOrphans(isOrphan func(pid int) bool, reaped func(pid int, ending machine.Ending))
		raisePriority() // is called when more processes end than graceful can reap in its share of the time
	}
	// guardWatcher learns of the end of the guard.
	guardWatcher interface {
		lostGuard() (lost, orphaned bool) // orphaned: graceful is not an ancestor of the tree

		// isGuardChild reports whether the guard is a child of graceful, or there is no guard. Otherwise no signal reports
		// that the guard was suspended.
		isGuardChild() bool
	}
	// memberFinder finds the members of the run. tree.Tree implements memberFinder.
	memberFinder interface {
		Members() []procfs.Process    // lists the live members
		Children() []procfs.Process   // lists the children of the root, dead or alive
		Child(pid int) procfs.Process // returns a child, dead or alive; Start is 0 if /proc does not show the process
		Alive(procfs.Identity) bool
		UserOf(pid int) (uid int) // returns -1 if the user is unknown
		SetScanLimit(time.Time)   // sets the time at which a scan of the tree ends with a partial result; zero: no limit
		IsLate() bool             // reports whether the time of SetScanLimit has passed
	}
	// memberScope changes which processes are members. tree.Tree implements memberScope.
	memberScope interface {
		Exempt(pid int)       // excludes a cleanup command, with its descendants
		Keep(variable string) // excludes the present members; later only a child with the variable is a member
		Disband() error       // removes the run's cgroup

		OnlyGroupOf(target procfs.Identity) // reduces a tree of tree.OpenOrphaned to the target's process group
	}
	// signaller sends signals other than SIGKILL.
	signaller interface {
		signalGroup(syscall.Signal) error          // signals the target's process group
		stopGroup(syscall.Signal) error            // does what signalGroup does, for a stop signal
		signalTarget(syscall.Signal) error         // signals the target alone
		signalSurvivors(...syscall.Signal)         // signals all members
		signalRest(...syscall.Signal)              // signals the members that have had no stop signal
		signalCommand(pid int, sig syscall.Signal) // signals the process group of a command
	}
	// stopRecorder records which members have received stop signals.
	stopRecorder interface {
		NoteReceivers()          // notes the receivers of stopGroup, which signalRest then omits
		LastStop() procfs.Moment // returns a moment just before the last stopGroup or signalRest
		stopBegun(stopOn []int)  // handles the beginning of a stop; stopOn lists the signals that begin one
		NoteEarlierStop(sig syscall.Signal, all bool, at procfs.Moment)
	}
	// killer empties the tree. tree.Tree implements killer. realSystem replaces KillChildren and Empty.
	killer interface {
		Kill() (found, denied []procfs.Process) // denied: the found members that graceful may not signal
		KillGroup() (found, denied []procfs.Process)
		KillChildren()     // kills the children, without examining each child
		KillBelow(pid int) // kills a child's group and descendants
		Empty(childless bool) bool
		ReportsEnds() bool // reports whether the tree can become empty only by the end of a child; else poll Empty
	}
	// orphanSignaller signals processes that are found by their place in the tree. tree.Tree implements orphanSignaller.
	orphanSignaller interface {
		SignalAll(procfs.Identity, syscall.Signal)
		SignalOrphans(...syscall.Signal)
		SignalOutsiders()
	}
	// suspender suspends and continues graceful together with the target.
	suspender interface {
		suspend()
		suspendedBy(target int) syscall.Signal
		Suspended(pid int) bool
		answerSuspension(target int, sig syscall.Signal) (what string)
		continued(target int)
	}
	// foregroundKeeper moves the foreground of the terminal between graceful and the target.
	foregroundKeeper interface {
		reclaimTerminal(target int, sig syscall.Signal) bool
		targetEnded(r Run)
		predecessorEnded(target int)
	}
	// identifier identifies processes that graceful has not started, or that make requests.
	identifier interface {
		isOtherCommand(p procfs.Process, id int) bool // reports whether p certainly belongs to another command
		isCommand(p procfs.Process, id int) bool      // reports whether p belongs to the command id, as far as is known
		member(pid int, start uint64, asker int) (procfs.Process, error)
		awaitExit(procfs.Identity) bool // makes the loop receive the end of a process; false: that is impossible
		admit(registry.Call) error      // returns nil if the process of the call is admitted
	}
	// successor finds what another process of graceful has started.
	successor interface {
		started() map[int]int             // maps the ids of commands that the guard has started to pids
		discarded(id int) cleanup.Outputs // returns the discarded outputs of a command in started
		findOrphaned(Run) error           // replaces the tree by one that descends from no process of graceful
		setTarget(Run)                    // sets a target that another process of graceful has started
	}
	// finisher performs the last steps of a run, and sends messages about them.
	finisher interface {
		notifyManager(assignments ...string) // sends a message to the service manager: see sd_notify(3)
		relayRest(r Run, stopping bool) (relayed <-chan struct{})
		writeReport(Run, *report.History) error
	}
)
