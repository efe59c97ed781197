package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup/eintr"
	"graceful/forward"
	"graceful/runner"
	"graceful/runner/process"
	"graceful/runner/tree"
)

// tryLimit is the maximum time that a tried run may take. It normally takes a fraction of a second.
const tryLimit = 10 * time.Second

// tryRun runs graceful version under graceful run: a whole run, with all threads and processes that it needs. If the
// run fails, the error is that of failure, or says that the run has exceeded tryLimit.
func tryRun(level tree.Level, guard runner.Guard) error {
	self, err := process.SelfPath()
	if err != nil {
		return fmt.Errorf("finding the executable of graceful: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	args := []string{"run", "--contain", string(level), "--guard", string(guard), "--", self, "version"}
	pid, err := process.StartSelf(self, args, w)
	w.Close()
	if err != nil {
		return err
	}
	_ = r.SetReadDeadline(time.Now().Add(tryLimit))
	text, late := io.ReadAll(r) // returns when every process of the run has ended, or after tryLimit
	if late != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	status, err := eintr.RetryValue(func() (status unix.WaitStatus, err error) {
		_, err = unix.Wait4(pid, &status, 0, nil)
		return status, err
	})
	switch {
	case err != nil:
		return fmt.Errorf("waiting for the run: %w", err)
	case late != nil:
		return fmt.Errorf("it did not end within %v", tryLimit)
	}
	return failure(status, string(text))
}

// failure returns the reason why a run failed: the signal that ended graceful, the first line of the output, or else
// the exit status. It returns nil if the run succeeded.
func failure(status unix.WaitStatus, text string) error {
	switch {
	case status.Exited() && status.ExitStatus() == 0:
		return nil
	case status.Signaled():
		return fmt.Errorf("signal %s ended it", forward.Name(status.Signal()))
	}
	first, _, _ := strings.Cut(text, "\n")
	first = strings.TrimPrefix(first, "graceful: ")
	first = strings.TrimPrefix(first, runner.ErrSetup.Error()+": ")
	return errors.New(cmp.Or(first, fmt.Sprintf("exit status %d", status.ExitStatus())))
}
