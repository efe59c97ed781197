package runner

import (
	"encoding/json"
	"time"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/process"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

const sigINT = int(unix.SIGINT)

// runOptions compares runs; an empty list is no list.
var runOptions = cmp.Options{cmp.AllowUnexported(machine.Deadline{}), cmpopts.EquateEmpty()}

// at is the machine's part of a run in a state, with a grace of 10 s.
func machineIn(s machine.State) machine.Run {
	r := machine.New(machine.Policy{Grace: 10 * time.Second}, nil, nil)
	r.State = s
	if s > machine.Starting {
		r.Target.PID = targetPID
	}
	switch s {
	case machine.Stopping:
		r.Stop.Signal, r.Stop.Count, r.Stop.Phase, r.Stop.Step = machine.SigTERM, 1, machine.Signalling, 1
	case machine.Killing:
		r.Stop.Signal, r.Stop.Count, r.Stop.Escalated, r.Stop.Step = machine.SigTERM, 1, true, 1
	case machine.Sweeping, machine.Cleaning:
		r.Target.Ended, r.Stop.Step = true, 1
	}
	return r
}

// entry changes an entry of a run.
func entry(id int, change func(*cleanup.Entry)) func(*machine.Run) {
	return func(r *machine.Run) { r.Cleanup.Stack = r.Cleanup.Update(id, change) }
}

// threeCommands is a run of two cleanup commands and one that waits for a process.
func threeCommands(s machine.State, change ...func(*machine.Run)) machine.Run {
	command := cleanup.Command{Text: "c", Args: []string{"c"}, Limit: time.Second}
	r := machine.New(machine.Policy{Survivors: machine.StopSurvivors}, []cleanup.Command{command, command}, nil)
	exits := cleanup.Registration{Exits: cleanup.Process{PID: 7, Start: 1}}
	r.Cleanup.Stack = r.Cleanup.Register(cleanup.Entry{Command: command, Registration: exits})
	r.State = s
	for _, c := range change {
		c(&r)
	}
	return r
}

// firstRecord is the record of how a run begins.
func firstRecord(r Run, in process.Inherited) json.RawMessage {
	runLedger := &memory{}
	if err := begin(runLedger, r, in); err != nil {
		panic(err)
	}
	return runLedger.records[0]
}

// systemOf is a system whose parts are all the same.
func systemOf(s interface {
	starter
	reaper
	members
	signals
	killer
	jobs
	waiter
	finisher
}) system {
	return system{s, s, s, s, s, s, s, s}
}
