package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"graceful/cleanup/ledger"
	"graceful/runner"
	"graceful/runner/journal"
)

// stateCheck is the result for the state directory.
type stateCheck struct {
	Check
	durable bool // the directory outlives the machine and the container
}

func examineState(path string, strict bool) stateCheck {
	s := stateCheck{Check: Check{Name: CheckState, Required: true, Holds: Yes}}
	dir, err := ledger.OpenDir(path)
	existing := path
	switch {
	case errors.Is(err, fs.ErrNotExist):
		existing = nearest(path)
		if err := unix.Access(existing, unix.W_OK|unix.X_OK); err != nil {
			s.lower(No, fmt.Sprintf("it does not exist, and cannot be created in %s: %v", existing, err), "")
			return s
		}
		s.lower(Partly, "it does not exist, and was not tried (graceful run creates it)", "mkdir -p -m 700 "+path)
	case err != nil:
		s.lower(No, err.Error(), "")
		return s
	default:
		defer dir.Close()
		if err := tryLedger(dir); err != nil {
			s.lower(No, err.Error(), "")
			return s
		}
		s.addRuns(dir, path)
	}
	s.addParents(path, strict)
	why, ends := fileSystem(existing)
	s.durable = !ends
	if why != "" {
		s.lower(Partly, why, "take a directory on a disk or a volume")
	}
	return s
}

// nearest returns the longest existing prefix of a path.
func nearest(path string) string {
	path, err := filepath.Abs(path)
	for err == nil && path != "/" && unix.Access(path, unix.F_OK) == unix.ENOENT {
		path = filepath.Dir(path)
	}
	return path
}

// tryLedger creates a ledger, writes to it, and removes it. The error is the reason why one of these steps fails, or
// says that the file system does not enforce locks. If graceful is killed before the removal, recover removes the
// ledger.
func tryLedger(dir *ledger.Dir) (err error) {
	file := ledger.FileName("doctor." + runner.NewID())
	trial, err := dir.Take(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, trial.Remove(), trial.Close()) }()
	if err := runner.ProbeLedger(trial); err != nil {
		return err
	}
	second, err := dir.Open(file)
	switch {
	case err == nil:
		return errors.Join(errors.New("its file system does not enforce locks"), second.Close())
	case !errors.Is(err, ledger.ErrAlive):
		return err
	}
	return nil
}

// addParents adds the parents through which another user can replace the directory. The directory may be missing.
func (s *stateCheck) addParents(path string, strict bool) {
	why, hint, err := runner.UnsafeParents(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.lower(No, err.Error(), "")
	}
	if why == "" {
		return
	}
	holds := Partly
	if strict {
		holds = No
	}
	s.lower(holds, "it can be replaced by others: "+why, hint)
}

// addRuns adds the numbers of runs in the directory, and the reasons why some of them need attention.
func (s *stateCheck) addRuns(dir *ledger.Dir, path string) {
	names, err := dir.Names()
	interrupted, err2 := dir.NamesSetAside()
	if err := errors.Join(err, err2); err != nil {
		s.lower(No, err.Error(), "")
		return
	}
	live, killed, unreadable := 0, 0, []string(nil)
	for _, name := range names {
		switch done, err := isDone(dir, name); {
		case errors.Is(err, ledger.ErrAlive):
			live++
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, journal.ErrEmpty): // the run has ended, or never began
		case err != nil:
			unreadable = append(unreadable, err.Error())
		case !done:
			killed++
		}
	}
	s.Detail = fmt.Sprintf("runs recorded there: %d live, %d killed, %d interrupted, %d unreadable",
		live, killed, len(interrupted), len(unreadable))
	if killed > 0 {
		s.lower(Partly, fmt.Sprintf("killed runs to recover: %d", killed),
			"graceful recover --state-dir "+path)
	}
	if len(interrupted) > 0 {
		s.lower(Partly, fmt.Sprintf("runs with cleanup commands that were interrupted: %d", len(interrupted)),
			"graceful recover --retry-interrupted --state-dir "+path+", or remove their files")
	}
	if len(unreadable) > 0 {
		s.lower(Partly, strings.Join(unreadable, "; "), "look at these files, and remove them")
	}
}

// isDone reports whether the run of a ledger is done. The error is ledger.ErrAlive if the run is live.
func isDone(dir *ledger.Dir, name string) (bool, error) {
	l, err := dir.Open(name)
	if err != nil {
		return false, err
	}
	defer l.Close()
	return runner.IsDone(l)
}
