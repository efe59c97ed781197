package runner

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner/journal"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/procfs"
	"graceful/runner/tree"
)

// A command that waits for a process starts at once when a pidfd reports the end of the process. Without a pidfd it
// starts at the next poll, even if another process has the pid by then.
func TestAwaitExit_reportedOrPolled(t *testing.T) {
	for _, c := range []struct {
		reported bool
		after    []procfs.Process
	}{{true, nil}, {false, nil}, {false, []procfs.Process{child(7, 2)}}} {
		synctest.Test(t, func(t *testing.T) {
			s, exits := newFakeSystem(), make(chan procfs.Identity)
			s.pidfds, s.others = c.reported, []procfs.Process{child(7, 1)}
			s.at(5*time.Second+time.Millisecond, func() { s.others = c.after })
			if c.reported {
				time.AfterFunc(5*time.Second+time.Millisecond, func() { exits <- procfs.Identity{PID: 7, Start: 1} })
			}
			s.at(time.Minute, func() { s.end(machine.Ending{}, targetPID) })
			r := threeCommands(machine.Starting, entry(3, func(c *cleanup.Entry) { c.Command.Text = "1s" }))
			run := Run{Run: r, Config: Config{Command: []string{"t"}, Policy: r.Policy}}
			l := loopOn(s, run)
			l.inputs.exits = exits
			l.awaitExit(l.command(3))
			l.start()
			began := slices.DeleteFunc(s.trace, func(did string) bool { return !strings.HasSuffix(did, "start 1s") })
			want := map[bool]string{true: "5.001s start 1s", false: "5.05s start 1s"}[c.reported]
			if len(began) != 1 || began[0] != want {
				t.Errorf("%+v: %q, want %q", c, began, want)
			}
		})
	}
}

// failing is a ledger whose Append returns err. Unless err means that the ledger is full, failing keeps the record, as
// a real ledger does, which writes it with the next record.
type failing struct {
	memory
	err     error
	reserve error // result of Reserve
	asked   int64 // bytes of the last call of Reserve
}

func (f *failing) Reserve(space int64) error {
	f.asked = space
	return f.reserve
}

func (f *failing) Append(r any) error {
	if !errors.Is(f.err, ledger.ErrFull) {
		_ = f.memory.Append(r)
	}
	return f.err
}

// twoCommands returns the configuration of a run with two cleanup commands.
func twoCommands() Config {
	return Config{
		Command: []string{"t"}, Contain: tree.Auto,
		OnExit: []cleanup.Command{
			{Text: "c", Args: []string{"c"}, Limit: time.Second}, {Text: "d", Args: []string{"d"}, Limit: time.Second},
		},
		Policy: machine.Policy{
			Order: cleanup.LIFO, ForwardTo: machine.ForwardToGroup, Survivors: machine.StopSurvivors,
		},
	}
}

// Without space for its events a command is refused, and nothing else changes.
func TestRegister_noSpaceForEvents(t *testing.T) {
	runLedger := &failing{reserve: errors.New("no space")}
	run := Run{Run: threeCommands(machine.Running)}
	l := loopOn(newFakeSystem(), run)
	l.recorder.ledger = runLedger
	ask := func(key string) machine.Answer {
		request := registry.Request{Command: cleanup.Texts([]string{"r"}), Env: cleanup.Texts([]string{"A=1"}), Key: key}
		l.register(registry.Call{Request: request})
		return l.registrar.answer
	}
	// wantAsked checks the last reservation: the size of the record of the command id, plus the size of all later events
	// of the run.
	wantAsked := func(id int) {
		t.Helper()
		room := l.run.Run
		if want := int64(l.command(id).RecordSize()) + journal.Room(room, 0); runLedger.asked != want {
			t.Errorf("reserved %d bytes, want %d", runLedger.asked, want)
		}
	}
	got := ask("k")
	if diff := cmp.Diff(run, l.run, runOptions); got.Refusal != "no space" || len(runLedger.records) > 0 || diff != "" {
		t.Errorf("%+v, recorded %s, changed: %s", got, runLedger.records, diff)
	}
	runLedger.reserve = nil
	if got := ask("k"); got != (machine.Answer{ID: 4}) || len(runLedger.records) != 1 || l.command(4).EnvOf != 0 {
		t.Errorf("after the refusal: %+v, recorded %s", got, runLedger.records)
	}
	wantAsked(4)
	l.handle(machine.Withdrawn{ID: 1})
	ask("other")
	wantAsked(5)
	runLedger.asked = 0
	if got := ask("k"); got != (machine.Answer{ID: 4}) || runLedger.asked != 0 {
		t.Errorf("a repeated request: %+v, %d bytes", got, runLedger.asked)
	}
}

func TestRegister_ledgerFails(t *testing.T) {
	for name, err := range map[string]error{"no space": errors.New("none"), "full": fmt.Errorf("x: %w", ledger.ErrFull)} {
		t.Run(name, func(t *testing.T) {
			s, runLedger := newFakeSystem(), &failing{}
			s.others = []procfs.Process{child(7, 1)}
			first := newRun("id", twoCommands())
			_ = runLedger.Append(firstRecord(first, process.Inherited{}))
			l := loopOn(s, first)
			l.recorder.ledger = runLedger
			l.handle(machine.TargetStarted{PID: targetPID})
			ask := func(exits int) machine.Answer {
				command, env := cleanup.Texts([]string{"r"}), cleanup.Texts([]string{"A=1"})
				l.register(registry.Call{Request: registry.Request{Command: command, Env: env, WhenExits: exits, Key: "k"}})
				return l.registrar.answer
			}
			want := func(ids ...int) {
				t.Helper()
				var got []int
				for _, c := range *l.list() {
					got = append(got, c.ID)
				}
				if !slices.Equal(got, ids) {
					t.Errorf("the commands are %v, want %v", got, ids)
				}
			}
			runLedger.err = err
			if got := ask(7); got.Refusal == "" || len(l.watcher.waitingCommands)+len(l.watcher.polledProcesses) > 0 {
				t.Errorf("registered: %+v, %v", got, l.watcher.waitingCommands)
			}
			want(1, 2)
			l.handle(machine.Withdrawn{ID: 1})
			full := errors.Is(err, ledger.ErrFull)
			refusal := l.registrar.answer.Refusal
			if kept := !strings.Contains(refusal, "should graceful be killed"); refusal == "" || kept != full {
				t.Errorf("withdrawn: %+v", l.registrar.answer)
			}
			left := map[bool][]int{true: {1, 2}, false: {2}}[full] // a lost record does not change the run
			want(left...)
			runLedger.err = nil
			got := ask(0)
			if got.Refusal != "" || got.ID != map[bool]int{true: 3, false: 4}[full] {
				t.Errorf("after the withdrawal: %+v", got)
			}
			want(append(left, got.ID)...)
			if c := l.command(got.ID); c.EnvOf != 0 || len(c.Env) != 1 {
				t.Errorf("no record has its environment: %+v", c)
			}
			// A process that resumes the run from these records has the same run.
			rec, err := replayRun(runLedger.records)
			if diff := cmp.Diff(l.run, rec.run, runOptions); err != nil || diff != "" {
				t.Errorf("the replayed run differs: %v %s", err, diff)
			}
		})
	}
}
