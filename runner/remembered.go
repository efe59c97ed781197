package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/runner/journal"
	"graceful/runner/process"
	"graceful/runner/procfs"
	"graceful/runner/report"
)

// The report lists as many signals as are recorded for it. This line does not compile otherwise.
const _ = uint(journal.MaxSignals - report.MaxListed)

// now returns the present time.
func now() journal.Clock { return journal.Clock{Time: time.Now(), Boots: process.SinceBoot()} }

// beginning returns the first record of a run.
func beginning(r Run, in process.Inherited) (journal.Begin, error) {
	config, err := cleanup.EncodeJSON(r.Config)
	dir, _ := os.Getwd() // only recover misses a directory that was removed
	b := journal.Begin{
		ID: r.ID, Name: cleanup.Text(r.Config.Name),
		Command: cleanup.Texts(r.Config.Command), Env: cleanup.Texts(r.Config.Env),
		Report: cleanup.Text(r.Config.Report), Cgroup: cleanup.Text(r.Cgroup), Socket: cleanup.Text(r.Socket), Config: config,
		Ignored: in.Ignored, Blocked: in.Blocked, Front: os.Getpid(), Boot: procfs.Boot(), Dir: cleanup.Text(dir),
	}
	for _, c := range r.Cleanup.Entries {
		b.Commands = append(b.Commands, *c)
	}
	return b, err
}

// begin writes the first record of a run that is about to start.
func begin(l journal.Ledger, r Run, in process.Inherited) error {
	b, err := beginning(r, in)
	if err != nil {
		return err
	}
	return journal.Start(l, b, r.Run, r.signals(), now())
}

// signals returns how many signals are recorded only for the report.
func (r Run) signals() int {
	if r.Config.Report == "" {
		return 0
	}
	return journal.MaxSignals
}

// remembered is a run as its ledger describes it.
type remembered struct {
	run     Run
	began   time.Time
	start   time.Duration // began, since boot
	last    time.Duration // from start to the last record
	inherit process.Inherited
	dir     string // working directory
	front   int    // pid of the front
	history *report.History
	boot    string // id of the boot

	claimTimes map[int]time.Duration // since boot, of each running command
}

// read returns the run of a ledger. The error is journal.ErrEmpty if the run never began.
func read(l *ledger.Ledger) (remembered, error) {
	records, err := l.Records()
	if err != nil {
		return remembered{}, err
	}
	m, err := remember(records)
	if err != nil && !errors.Is(err, journal.ErrEmpty) {
		err = fmt.Errorf("reading %s: %w", l, err)
	}
	return m, err
}

// remember replays the records of a ledger.
func remember(records []json.RawMessage) (m remembered, err error) {
	begun := func(b journal.Begin, at time.Time) (journal.Observer, error) {
		m.run = Run{ID: b.ID, Cgroup: string(b.Cgroup), Socket: string(b.Socket)}
		config := &m.run.Config
		if err := json.Unmarshal(b.Config, config); err != nil {
			return nil, err
		}
		config.Command, config.Env = cleanup.Strings(b.Command), cleanup.Strings(b.Env)
		config.Name, config.Report = string(b.Name), string(b.Report)
		for _, c := range b.Commands {
			if c.When == cleanup.AtStop {
				config.OnStop = append(config.OnStop, c.Command)
			} else {
				config.OnExit = append(config.OnExit, c.Command)
			}
		}
		m.history = newHistory(m.run, b.Front, string(b.Dir), at)
		return m.history, config.check()
	}
	replayed, err := journal.Replay(records, now(), procfs.Boot(), begun)
	m.run.Run, m.began, m.start, m.last = replayed.Run, replayed.Began, replayed.Start, replayed.Last
	m.inherit = process.Inherited{Ignored: replayed.Begin.Ignored, Blocked: replayed.Begin.Blocked}
	m.dir, m.front, m.boot = string(replayed.Begin.Dir), replayed.Begin.Front, replayed.Begin.Boot
	m.claimTimes = replayed.Claimed
	return m, err
}

// newHistory returns the history of a run for its report, or nil if the run writes no report.
func newHistory(r Run, front int, dir string, began time.Time) *report.History {
	if r.Config.Report == "" {
		return nil
	}
	subject := report.Subject{ID: r.ID, Name: r.Config.Name, Command: r.Config.Command, Dir: dir, Front: front}
	return report.NewHistory(subject, began)
}
