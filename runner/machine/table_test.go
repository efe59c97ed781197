package machine

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"graceful/cleanup"
)

// verb describes a word in a cell of Next's tables. An outcome is the name of a new state or of the type of an action.
type verb struct {
	may  string // possible outcomes, and verbs whose outcomes are also possible
	must string // outcome that at least one run must have; SIGNAL: ForwardSignal or SignalSurvivors; "": none
}

var verbs = map[string]verb{
	"run":      {"Running", "Running"},
	"stop":     {"Stopping next", "Stopping"},
	"next":     {"StartCommand sweep step", "StartCommand"},
	"step":     {"forward kill", "startTimer"},
	"kill":     {"Killing Sweeping Cleaning Done KillTree KillCommand LeaveSurvivors StartCommand RelayRest", "KillTree"},
	"sweep":    {"Sweeping KillTree LeaveSurvivors SignalSurvivors clean step", "Sweeping"},
	"clean":    {"Cleaning Done StartCommand RelayRest", "StartCommand"},
	"phase":    {"step forward", "ForwardSignal"},
	"forward":  {"ForwardSignal SignalSurvivors", "SIGNAL"},
	"suspend":  {"ForwardSignal Suspend forward", "Suspend"},
	"count":    {"", ""},
	"cut":      {"TerminateCommand KillCommand end clear", "TerminateCommand"},
	"end":      {"KillCommand", "KillCommand"},
	"clear":    {"KillTree", "KillTree"},
	"start":    {"StartCommand", "StartCommand"},
	"join":     {"Answer", "Answer"},
	"withdraw": {"Answer", "Answer"},
	"refuse":   {"Answer", "Answer"},
	"restore":  {"", ""},
}

// allowed returns all possible outcomes of a verb. A word that is no verb is itself an outcome.
func allowed(word string) (outcomes []string) {
	v, ok := verbs[word]
	if !ok {
		return []string{word}
	}
	for _, w := range strings.Fields(v.may) {
		outcomes = append(outcomes, allowed(w)...)
	}
	return outcomes
}

// columns maps the head of each column of the tables to its events. Commands 1 and 2 are cleanup commands, and command
// 3 is an on-stop command.
func columns() map[string][]Event {
	ends := func(id int) []Event {
		return []Event{CommandEnded{ID: id}, CommandEnded{ID: id, Unseen: true}, CommandTimer{id, AbandonTimer}}
	}
	entry := cleanup.Entry{Command: cleanup.Command{Text: "r", Args: []string{"r"}, Limit: time.Second}}
	return map[string][]Event{
		"TargetStarted":  {TargetStarted{PID: 100}},
		"TargetFailed":   {TargetFailed{Status: 127}},
		"TargetEnded":    {TargetEnded{Ending: Ending{Code: 1}}},
		"TargetGivenUp":  {TargetGivenUp{}},
		"TreeEmptied":    {TreeEmptied{}},
		"Relayed":        {Relayed{}},
		"PeerEnded":      {PeerEnded{}},
		"Recovered":      {Recovered{}},
		"stop signal":    {stopSignal(SigTERM), stopSignal(sigINT)},
		"other signal":   {otherSignal(sigHUP)},
		"TSTP TTIN TTOU": {suspendSignal(sigTSTP)},
		"timeout":        {TimeUp{TimeoutTimer}},
		"drain":          {TimeUp{DrainTimer}},
		"grace":          {TimeUp{GraceTimer}},
		"deadline":       {TimeUp{DeadlineTimer}},
		"on-stop ends":   append(ends(3), CommandFailed{ID: 3, Err: "none"}),
		"cleanup ends":   append(ends(2), CommandFailed{ID: 2, Err: "none"}, CommandLost{ID: 2}),
		"ProcessExited":  {ProcessExited{ID: 1}},
		"Registered":     {Registered{Entry: entry}},
		"Withdrawn":      {Withdrawn{ID: 1}, Withdrawn{ID: 9}},
		"Retried":        {Retried{}, RetriedUnstarted{}},
	}
}

// command returns a change of a run: the command id, if it exists, gets a progress and a pid.
func command(id int, p cleanup.Progress, pid int) func(*Run) {
	return func(r *Run) {
		if id <= r.Cleanup.Entries.Len() {
			entry(id, func(c *cleanup.Entry) { c.Progress, c.PID = p, pid })(r)
		}
	}
}

// endedWith returns a change of a run: command 1 has ended with an outcome.
func endedWith(o cleanup.Outcome) func(*Run) {
	return entry(1, func(c *cleanup.Entry) { c.Progress, c.Outcome = cleanup.Ended, o })
}

// variants returns runs in a state that differ in the data that the machine examines. It combines each policy with each
// pair of changes.
func variants(s State) (runs []Run) {
	commands := func(o *options) {
		o.OnStop = []cleanup.Command{{Text: "s1", Limit: time.Second}, {Text: "s2", Limit: time.Second}}
	}
	policies := []func(*options){
		func(*options) {},
		commands,
		func(o *options) { commands(o); o.OnRepeat = RepeatKill },
		func(o *options) { o.Drain, o.Deadline, o.Timeout = time.Second, 100*time.Second, time.Minute },
		func(o *options) { commands(o); o.Survivors, o.Deadline = WaitSurvivors, 100*time.Second },
		func(o *options) { o.Survivors = KeepSurvivors },
		func(o *options) { o.PTY = true },
		func(o *options) { o.Schedule = []Step{{sigINT, time.Second}, {NoSignal, time.Second}} },
	}
	anywhere := []func(*Run){
		func(*Run) {},
		func(r *Run) { r.Stop.Step = 0 },
		func(r *Run) { r.Cleanup.Commands = cleanup.Commands{} },
	}
	begun := []func(*Run){ // in every state except Starting
		entry(1, func(c *cleanup.Entry) { c.Awaited.PID = 300 }),
		endedWith(cleanup.Outcome{Interrupted: true}), endedWith(cleanup.Outcome{Unstarted: true}),
	}
	claimed := []func(*Run){command(2, cleanup.Claimed, 0), command(2, cleanup.Claimed, 200)}
	stopped := []func(*Run){ // from Stopping on
		func(r *Run) { r.Stop.Count = 1 },
		func(r *Run) { r.Stop.Escalated = true },
		command(3, cleanup.Claimed, 0),
		command(3, cleanup.Claimed, 301),
		command(3, cleanup.Ended, 301),
	}
	special := map[State][]func(*Run){
		Stopping: {
			inPhase(PhaseDrain),
			func(r *Run) { inPhase(PhaseOnStop)(r); command(3, cleanup.Claimed, 301)(r) },
			func(r *Run) { inPhase(PhaseOnStop)(r); command(3, cleanup.Claimed, 301)(r); r.Target.Ended = true },
		},
		Cleaning: {
			func(r *Run) { command(2, cleanup.Ended, 200)(r); r.Cleanup.Clearing = true },
			func(r *Run) { command(2, cleanup.Pending, 0)(r); r.Cleanup.Relaying = true },
			command(2, cleanup.Ended, 200),
		},
	}
	changes := append(anywhere, special[s]...)
	if s > Starting {
		changes = append(changes, begun...)
	}
	if s > Starting && s < Done {
		changes = append(changes, claimed...)
	}
	if s > Running {
		changes = append(changes, stopped...)
	}
	for _, p := range policies {
		for _, first := range changes {
			for _, second := range changes {
				second := func(r *Run) {
					if r.Cleanup.Entries.Len() > 0 {
						second(r)
					}
				}
				runs = append(runs, with(s, p, first, second))
			}
		}
	}
	return runs
}

// outcomesOf returns the outcomes of an event. changed means that the event has changed the run or caused an action.
func outcomesOf(r Run, e Event) (outcomes []string, changed bool) {
	got, actions := Next(r, e)
	changed = len(actions) > 0 || !reflect.DeepEqual(r, got)
	if got.State != r.State {
		name := got.State.String()
		outcomes = append(outcomes, strings.ToUpper(name[:1])+name[1:])
	}
	for _, a := range actions {
		outcomes = append(outcomes, reflect.TypeOf(a).Name())
	}
	return outcomes, changed
}

// The tables above Next agree with the machine: each run has only outcomes that the cell allows, each outcome that the
// cell requires occurs, and under an empty cell no event changes a run.
func TestNext_table(t *testing.T) {
	source, err := os.ReadFile("next.go")
	if err != nil {
		t.Fatal(err)
	}
	events, cells := columns(), 0
	runs := map[State][]Run{}
	for s := Starting; s <= Done; s++ {
		runs[s] = variants(s)
	}
	var heads []string
	for line := range strings.Lines(string(source)) {
		row, isRow := strings.CutPrefix(strings.TrimSpace(line), "//\t")
		fields := strings.Split(row, "|")
		if !isRow || len(fields) < 2 {
			continue
		}
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if fields[0] == "state" {
			heads = fields
			continue
		}
		state := Starting
		for !strings.EqualFold(state.String(), fields[0]) {
			state++
		}
		for i, cell := range fields[1:] {
			t.Run(fmt.Sprintf("%v %s", state, heads[i+1]), func(t *testing.T) {
				checkCell(t, cell, runs[state], events[heads[i+1]])
			})
			cells++
		}
	}
	if want := len(events) * (int(Done) + 1); cells != want {
		t.Errorf("the tables have %d cells, want %d", cells, want)
	}
}

// checkCell fails the test unless the text of one cell agrees with the behaviour of the machine for these runs and
// events.
func checkCell(t *testing.T, cell string, runs []Run, events []Event) {
	var words, may []string
	for word := range strings.SplitSeq(cell, ",") {
		if word, _, _ = strings.Cut(strings.TrimSpace(word), " "); word != "" {
			words = append(words, word)
			may = append(may, allowed(word)...)
		}
	}
	seen, acts := map[string]bool{}, false
	for _, r := range runs {
		for _, e := range events {
			outcomes, changed := outcomesOf(r, e)
			acts = acts || changed
			for _, o := range outcomes {
				seen[o] = true
				timer := o == "startTimer" || o == "stopTimer"
				if len(words) == 0 || !timer && !slices.Contains(may, o) {
					t.Fatalf("the cell is %q; %+v leads to %v in %+v", cell, e, outcomes, r)
				}
			}
		}
	}
	if acts != (len(words) > 0) {
		t.Errorf("the cell is %q, but a run changes: %t", cell, acts)
	}
	seen["SIGNAL"] = seen["ForwardSignal"] || seen["SignalSurvivors"]
	for _, word := range words {
		if must := verbs[word].must; must != "" && !seen[must] {
			t.Errorf("the cell is %q; no run has the outcome %s", cell, must)
		}
	}
}
