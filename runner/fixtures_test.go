package runner

import (
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/machine"
	"graceful/runner/process"
)

// memory is a ledger in memory. It keeps its records, so that a test can read them.
type memory struct{ records []json.RawMessage }

func (m *memory) Append(r any) error {
	m.records = append(m.records, r.(json.RawMessage))
	return nil
}

func (m *memory) Reserve(int64) error { return nil }

func (m *memory) events() (events []string) {
	for _, r := range m.records {
		var event struct{ Event string }
		_ = json.Unmarshal(r, &event)
		events = append(events, event.Event)
	}
	return events
}

const sigINT = int(unix.SIGINT)

// quiet is a logger that discards its output.
var quiet = slog.New(slog.DiscardHandler)

// runOptions makes go-cmp compare runs. An empty list equals nil.
var runOptions = cmp.Options{cmp.AllowUnexported(machine.Deadline{}), cmpopts.EquateEmpty(), listed}

// listed makes go-cmp compare the entries of a list, not its internal form.
var listed = cmp.Transformer("entries", func(l cleanup.List) []*cleanup.Entry { return slices.Collect(l.All()) })

// machineIn returns a machine.Run in a state, with a grace of 10 s.
func machineIn(s machine.State) machine.Run {
	r := machine.New(machine.Policy{Grace: 10 * time.Second}, nil, nil)
	r.State = s
	if s > machine.Starting {
		r.Target.PID = targetPID
	}
	switch s {
	case machine.Stopping:
		r.Stop.Signal, r.Stop.Count, r.Stop.Phase, r.Stop.Step = machine.SigTERM, 1, machine.PhaseSignals, 1
	case machine.Killing:
		r.Stop.Signal, r.Stop.Count, r.Stop.Escalated, r.Stop.Step = machine.SigTERM, 1, true, 1
	case machine.Sweeping, machine.Cleaning:
		r.Target.Ended, r.Stop.Step = true, 1
	}
	return r
}

// entry returns a function that changes one entry of a run.
func entry(id int, change func(*cleanup.Entry)) func(*machine.Run) {
	return func(r *machine.Run) { r.Cleanup.Commands = r.Cleanup.Update(id, change) }
}

// threeCommands returns a run in a state, after the functions change were applied to it. The run has two cleanup
// commands, and one that waits for the end of a process.
func threeCommands(s machine.State, change ...func(*machine.Run)) machine.Run {
	command := cleanup.Command{Text: "c", Args: []string{"c"}, Limit: time.Second}
	r := machine.New(machine.Policy{Survivors: machine.StopSurvivors}, []cleanup.Command{command, command}, nil)
	exits := cleanup.Registration{Awaited: cleanup.Process{PID: 7, Start: 1}}
	r.Cleanup.Commands = r.Cleanup.Register(cleanup.Entry{Command: command, Registration: exits})
	r.State = s
	for _, c := range change {
		c(&r)
	}
	return r
}

// firstRecord returns the first record of a run.
func firstRecord(r Run, in process.Inherited) json.RawMessage {
	runLedger := &memory{}
	if err := recordBegin(runLedger, r, &realSystem{inherited: in}); err != nil {
		panic(err)
	}
	return runLedger.records[0]
}

// loopOn returns a loop that performs a run on a fake system.
func loopOn(s interface {
	system
	inputs() inputs
}, r Run) *loop {
	return &loop{run: r, sys: s, log: quiet, inputs: s.inputs(), began: time.Now(), announcer: newAnnouncer()}
}
