package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/runner/report"
	"graceful/runner/tree"
)

// begin makes a ledger that of a run that is about to start.
func begin(book *ledger.Ledger, r Run, in inherited) error {
	text, err := json.Marshal(firstRecord(r, in))
	if err != nil {
		return err
	}
	if n := len(text) + ledger.Overhead + perStep*len(r.Config.steps()); n > maxFirst {
		return fmt.Errorf("%w: its command line and environment take %d bytes in %s, and may take %d",
			errTooLarge, n, book, maxFirst)
	}
	if err := book.Reserve(int64(len(text)) + r.room()); err != nil {
		return err
	}
	return book.Append(json.RawMessage(text))
}

// errTooLarge tells that a run has more arguments, environment or commands than there is room for in a ledger.
var errTooLarge = errors.New("the run is too large")

// read tells where the run of a ledger stands.
func read(book *ledger.Ledger) (remembered, error) {
	records, err := book.Records()
	if err != nil {
		return remembered{}, err
	}
	m, err := remember(records)
	if err != nil && err != errEmpty {
		err = fmt.Errorf("reading %s: %w", book, err)
	}
	return m, err
}

// finish ends the ledger of a run that is done. One that tells of commands that were interrupted is kept.
func finish(r Run, book *ledger.Ledger) error {
	if book == nil || len(interrupted(r)) == 0 {
		return discard(book)
	}
	return book.SetAside(ledger.Interrupted)
}

// conclude is finish for a run whose user has gone. It says which commands were interrupted: whoever was to say it
// before may have been killed.
func conclude(r Run, book *ledger.Ledger, log *slog.Logger) error {
	registry.Remove(r.Socket)
	lost := interrupted(r)
	for _, c := range lost {
		log.Warn(commandName(*c), "err", "was interrupted, and is not run again", "hint", "graceful recover --retry-interrupted")
	}
	if err := finish(r, book); err != nil || len(lost) == 0 {
		return err
	}
	return errCommands
}

func discard(book *ledger.Ledger) error {
	if book == nil {
		return nil
	}
	return book.Remove()
}

func interrupted(r Run) (commands []*cleanup.Entry) {
	return slices.DeleteFunc(slices.Clone(r.Cleanup.Entries), func(c *cleanup.Entry) bool { return !c.Outcome.Interrupted })
}

// lockPatience is for a lock whose holder is only thought to live: what a process of ours was starting when it was
// killed has the ledger until its execve(2).
const lockPatience = 500 * time.Millisecond

// locked calls again until nobody else has the lock, or it is late.
func locked(late time.Time, open func() (*ledger.Ledger, error)) (*ledger.Ledger, error) {
	for {
		book, err := open()
		if !errors.Is(err, ledger.ErrAlive) || time.Now().After(late) {
			return book, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// openBook opens the ledger in the state directory, where there is to be one. The run of that name that was there and
// whose processes are dead is finished first. A stop signal that came meanwhile is returned.
func (p *processes) openBook(config Config, log *slog.Logger) (book *ledger.Ledger, stopped syscall.Signal, err error) {
	if config.StateDir == "" {
		return nil, 0, nil
	}
	dir, err := ledger.MakeDir(config.StateDir)
	if err != nil {
		return nil, 0, err
	}
	defer dir.Close()
	if err := checkParents(config.StateDir, config.StrictStateDir, log); err != nil {
		return nil, 0, err
	}
	file := ledger.FileName(config.Name + "." + newID())
	if config.Named {
		file = ledger.FileName(config.Name)
	}
	for {
		book, err = locked(time.Now().Add(lockPatience), func() (*ledger.Ledger, error) { return dir.Take(file) })
		if errors.Is(err, ledger.ErrAlive) {
			return nil, 0, fmt.Errorf("a run named %s lives: %w", config.Name, err)
		}
		if err != nil {
			return nil, 0, err
		}
		m, err := read(book)
		if err == errEmpty { // ours, or of one that was killed before it had begun
			return book, 0, nil
		}
		if err != nil {
			return nil, 0, errors.Join(err, book.Close())
		}
		log.Warn("finishing first what is left of run "+m.run.ID, "err", "it was killed")
		stopped, err := p.finishDead(m, book, false, log)
		p.listener.Restart()
		if err == errCommands {
			err = nil
		}
		if err := errors.Join(err, book.Close()); err != nil || stopped != 0 {
			return nil, stopped, err
		}
	}
}

// Recovery is what Recover is asked for.
type Recovery struct {
	StateDir       string
	StrictStateDir bool   // it is an error that another user can replace StateDir
	Name           string // of the one run; "": all
	Retry          bool   // run commands again that were interrupted
}

// Recovered is what came of it.
type Recovered struct {
	Failed  int // runs that could not be finished, or of whose commands one failed or was interrupted
	Stopped syscall.Signal
}

// Recover finishes the runs in a state directory whose processes have all been killed. Like Do it takes over the
// process. An error (ErrSetup) means that nothing was looked at.
func Recover(want Recovery, log *slog.Logger) (done Recovered, err error) {
	dir, err := ledger.OpenDir(want.StateDir)
	if err != nil {
		return done, err
	}
	defer dir.Close()
	if err := checkParents(want.StateDir, want.StrictStateDir, log); err != nil {
		return done, err
	}
	files, err := dir.Names()
	if err != nil {
		return done, err
	}
	if want.Retry {
		aside, err := dir.NamesSetAside()
		if err != nil {
			return done, err
		}
		files = append(files, aside...)
	}
	p, err := prepare(Config{Contain: tree.Auto}, readInherited(), log)
	if err != nil {
		return done, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	p.listener.Hear()
	late := time.Now().Add(lockPatience)
	for _, file := range files {
		book, err := locked(late, func() (*ledger.Ledger, error) { return dir.Open(file) })
		switch {
		case errors.Is(err, ledger.ErrAlive):
			log.Info("left alone", "ledger", file, "err", err)
			continue
		case errors.Is(err, os.ErrNotExist): // somebody else has finished it
			continue
		case err != nil:
			log.Error("not recovered", "err", err)
			done.Failed++
			continue
		}
		m, err := read(book)
		switch {
		case want.Name != "" && m.run.Config.Name != want.Name:
			err = nil
		case err == errEmpty:
			err = book.Remove()
		case err == nil:
			log.Info("recovering", "run", m.run.ID, "name", m.run.Config.Name)
			// Under its old name a retry that is killed too is seen by whoever comes next, and no run of that name begins
			// meanwhile.
			_, err = locked(late, func() (*ledger.Ledger, error) { return book, book.TakeBack() })
			if errors.Is(err, ledger.ErrAlive) {
				err = fmt.Errorf("a run named %s lives: %w", m.run.Config.Name, err)
			}
			if err == nil {
				done.Stopped, err = p.finishDead(m, book, want.Retry, log)
			}
		}
		err = errors.Join(err, book.Close())
		if err != nil {
			done.Failed++
		}
		if err != nil && !errors.Is(err, errCommands) {
			log.Error("not recovered", "err", err)
		}
		if done.Stopped != 0 {
			break
		}
	}
	return done, nil
}

// errCommands tells that a run was finished, and that not all its commands did what they were for, as has been said.
var errCommands = errors.New("not every cleanup command succeeded")

// finishDead finishes a run whose processes of ours are all dead; we hold the lock of its ledger.
func (p *processes) finishDead(m remembered, book *ledger.Ledger, retry bool, log *slog.Logger) (stopped syscall.Signal, err error) {
	m.history.goOn()
	same := m.boot != "" && m.boot == tree.Boot()
	if !same {
		m.run.Cgroup = ""
	}
	q := *p
	q.inherit.blocked = m.inherit.blocked
	if q.report = nil; m.history != nil {
		q.report = report.Reopen(m.run.Config.Report)
		defer q.report.Close()
	}
	if m.run.State == Done && !(retry && len(interrupted(m.run)) > 0) {
		q.loop(m, book, log).loop() // for what was to come after
		return 0, conclude(m.run, book, log)
	}
	q.tree = nil
	if same {
		q.tree, err = tree.Hunt("GRACEFUL_RUN_ID="+m.run.ID, known(m.run), m.start)
	} else { // nobody is left, and the ids are others' now
		q.tree, _, err = tree.Open(tree.Auto)
	}
	if err != nil {
		return 0, fmt.Errorf("finding what run %s has left: %w", m.run.ID, err)
	}
	back, err := enter(m.dir, log) // words in the commands may be relative to it
	if err != nil {
		return 0, fmt.Errorf("run %s: its working directory: %w", m.run.ID, err)
	}
	defer back()
	l := q.loop(m, book, log)
	l.recover(m, same, retry)
	r := l.loop()
	if err = conclude(r, book, log); err != nil {
		return l.stopHeard, err
	}
	if slices.ContainsFunc(r.Cleanup.Entries, func(c *cleanup.Entry) bool { return c.Outcome.Failed() }) {
		err = errCommands
	}
	return l.stopHeard, err
}

// enter makes a directory ours and returns the way back. In the place of one that has been removed comes another that
// has: commands find nothing there, as they would have found in the first.
func enter(dir string, log *slog.Logger) (back func(), err error) {
	here, err := os.Open(".")
	if err != nil {
		return nil, err
	}
	if err = os.Chdir(dir); errors.Is(err, os.ErrNotExist) {
		log.Warn("the run's working directory is gone", "err", err)
		if dir, err = os.MkdirTemp("", "graceful-"); err == nil {
			err = errors.Join(os.Chdir(dir), os.Remove(dir))
		}
	}
	if err != nil {
		return nil, errors.Join(err, here.Close())
	}
	return func() {
		_ = here.Chdir()
		_ = here.Close()
	}, nil
}

// known lists the processes that a run has written down, and that can be told from others that have their pids now.
func known(r Run) (ids []tree.Identity) {
	if r.TargetStart != 0 {
		ids = append(ids, tree.Identity{PID: r.TargetPID, Start: r.TargetStart})
	}
	for _, c := range r.Cleanup.Entries {
		if c.Start != 0 {
			ids = append(ids, tree.Identity{PID: c.PID, Start: c.Start})
		}
	}
	return ids
}
