package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"graceful/cleanup"
	"graceful/forward"
	"graceful/runner/procfs"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// Report is what a run came to, for programs. docs/report.schema.json describes it. A pid, time or status that there is
// none of is null.
type Report struct {
	Form    int    `json:"report"` // its version
	Version string `json:"version"`

	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Command    []string   `json:"command"`
	Dir        string     `json:"dir"`
	Level      tree.Level `json:"level"`
	PID        int        `json:"pid"` // of the process that the user started
	Supervisor *int       `json:"supervisor_pid"`
	Writer     int        `json:"writer_pid"` // who has brought the run to its end
	TakenOver  bool       `json:"taken_over"` // a process of graceful's was killed, and another has gone on
	Began      time.Time  `json:"began"`
	Finished   time.Time  `json:"finished"`

	Reason     string  `json:"reason"`
	ExitStatus int     `json:"exit_status"`
	Raised     *string `json:"raised_signal"` // graceful ends by it
	Escalated  bool    `json:"escalated"`

	Target struct {
		PID        *int       `json:"pid"`
		Started    *time.Time `json:"started"`
		Ended      *time.Time `json:"ended"`
		DurationMS *int64     `json:"duration_ms"`
		ExitCode   *int       `json:"exit_code"`
		Signal     *string    `json:"signal"`
		Error      *string    `json:"error"`
		Usage      *Usage     `json:"usage"`
	} `json:"target"`

	Stop *Stop `json:"stop"`

	Received []Signalled `json:"signals_received"`
	Sent     []Signalled `json:"signals_sent"`
	Omitted  int         `json:"signals_omitted"`

	Emptied *time.Time `json:"tree_emptied"`
	Killed  []Process  `json:"killed"`
	Left    []Process  `json:"left"`

	Commands []Outcome `json:"commands"`
}

// Stop is how a run's stop began.
type Stop struct {
	Began    time.Time `json:"began"`
	Signal   *string   `json:"signal"`
	TimedOut bool      `json:"timed_out"`
}

// Process is a process of the tree.
type Process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

// Outcome is what became of a command of the run's.
type Outcome struct {
	ID         int        `json:"id"`
	When       string     `json:"when"` // stop, exit
	Name       *string    `json:"name"`
	Command    string     `json:"command"`
	Dir        *string    `json:"dir"`   // null: the run's
	Exits      *int       `json:"exits"` // it ran, or was to run, as soon as that process had ended
	PID        *int       `json:"pid"`
	Started    *time.Time `json:"started"`
	Ended      *time.Time `json:"ended"`
	DurationMS *int64     `json:"duration_ms"`
	Outcome    string     `json:"outcome"` // succeeded, failed, timed-out, cut, not-started, interrupted, unknown, not-run, withdrawn
	ExitCode   *int       `json:"exit_code"`
	Signal     *string    `json:"signal"`
	Error      *string    `json:"error"`
}

const reportVersion = 1

func pointer[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

func signalName(sig int) string {
	if sig == 0 {
		return ""
	}
	return forward.Name(syscall.Signal(sig))
}

// report tells of a run that is done.
func (r Run) report(h *history, now time.Time) Report {
	doc := Report{
		Form: reportVersion, ID: r.ID, Name: r.Config.Name, Command: r.Config.Command, Dir: h.dir,
		PID: h.front, TakenOver: h.takenOver, Began: h.began, Finished: now,
		Reason: r.Reason(), ExitStatus: r.Status(), Raised: pointer(signalName(r.Raise())), Escalated: r.Escalated,
		Received: append([]Signalled{}, h.received...), Sent: append([]Signalled{}, h.sent...), Omitted: h.omitted,
		Emptied: pointer(h.emptied), Killed: processesOf(h.killed), Left: processesOf(h.left), Commands: []Outcome{},
	}
	t := &doc.Target
	t.PID, t.Started, t.Ended = pointer(r.TargetPID), pointer(h.started), pointer(h.ended)
	t.Error, t.Usage = pointer(h.failure), h.usage
	if t.Ended != nil { // else nobody knows how
		code, duration := r.Ending.Code, r.Duration.Milliseconds()
		if t.DurationMS = &duration; r.Ending.Signal == 0 {
			t.ExitCode = &code
		}
		t.Signal = pointer(signalName(r.Ending.Signal))
	}
	if !h.stopped.IsZero() {
		doc.Stop = &Stop{h.stopped, pointer(signalName(r.StopSignal)), r.TimedOut}
	}
	for _, c := range r.Cleanup.Entries {
		doc.Commands = append(doc.Commands, outcomeOf(*c, h.commands[c.ID]))
	}
	return doc
}

func processesOf(from []procfs.Process) []Process {
	to := []Process{}
	for _, p := range from {
		to = append(to, Process{p.PID, p.Name})
	}
	return to
}

func outcomeOf(c cleanup.Entry, life span) Outcome {
	o := Outcome{
		ID: c.ID, When: "exit", Name: pointer(c.Name), Command: c.Command.Text, Dir: pointer(c.Dir), Exits: pointer(c.Exits.PID),
		PID: pointer(life.pid), Started: pointer(life.from), Ended: pointer(life.to),
		Signal: pointer(signalName(c.Outcome.Signal)), Error: pointer(c.Outcome.Error), Outcome: "succeeded",
	}
	if c.When == cleanup.AtStop {
		o.When = "stop"
	}
	if o.Started != nil && o.Ended != nil {
		duration := max(life.to.Sub(life.from).Milliseconds(), 0) // the clock may have been set back
		o.DurationMS = &duration
	}
	if code := c.Outcome.Code; c.Progress == cleanup.Ended && c.PID != 0 && o.Signal == nil && o.Error == nil {
		o.ExitCode = &code
	}
	switch {
	case c.Progress == cleanup.Withdrawn:
		o.Outcome = "withdrawn"
	case c.Progress == cleanup.Pending:
		o.Outcome = "not-run"
	case c.Outcome.Interrupted, c.Outcome.Error == wasInterrupted:
		o.Outcome = "interrupted"
	case c.Progress == cleanup.Claimed, c.Outcome.Error == wasUnseen: // nobody has waited for it, or could
		o.Outcome = "unknown"
	case c.Cut:
		o.Outcome = "cut"
	case c.TimedOut:
		o.Outcome = "timed-out"
	case o.Started == nil && o.Error != nil:
		o.Outcome = "not-started"
	case c.Outcome.Failed():
		o.Outcome = "failed"
	}
	return o
}

// writeReport writes the report where one is wanted. Should it fail the run is what it was.
func (p *processes) writeReport(r Run, h *history) error {
	if h == nil {
		return nil
	}
	doc := r.report(h, time.Now())
	doc.Version, doc.Writer, doc.Supervisor = "unknown", unix.Getpid(), pointer(p.supervisor)
	if info, ok := debug.ReadBuildInfo(); ok {
		doc.Version = info.Main.Version
	}
	if doc.Level = p.tree.Level(); r.Cgroup != "" {
		doc.Level = tree.Cgroup
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // commands are full of <, > and &
	e.SetIndent("", "  ")
	err := e.Encode(doc)
	if err == nil {
		// One name for all who may come to write it: what a killed one has left is taken away by the next.
		err = writeFile(r.Config.Report, ".graceful-"+r.ID, text.Bytes(), min(time.Second, r.Config.patience()))
	}
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) { // the names in err are ours
			err = errno
		}
		return fmt.Errorf("writing report %s: %w", r.Config.Report, err)
	}
	return nil
}

// writeFile replaces a file as a whole or not at all, and where a symbolic link points. What is no regular file, a FIFO or a
// terminal, and a descriptor of ours, /dev/stderr, cannot be replaced and is written to, if within patience
// somebody is there to read. draft is the name of a file beside it.
func writeFile(path, draft string, text []byte, patience time.Duration) error {
	for range 40 { // as many as the kernel follows
		if isDescriptor(path) {
			return writeDescriptor(path, text, patience)
		}
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			dir, _ := filepath.Split(path)
			to = dir + to // and not cleaned: what is before a ".." may be a link
		}
		path = to
	}
	mode := fs.FileMode(0o666)
	switch st, err := os.Stat(path); {
	case err == nil && !st.Mode().IsRegular():
		return writeStream(path, text, patience)
	case err == nil:
		mode = st.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dir, _ := filepath.Split(path)
	draft = dir + draft
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if mode != 0o666 {
		_ = f.Chmod(mode) // as it was, whatever the umask
	}
	err = write(f, 0, text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(draft, path)
	}
	if err != nil {
		_ = os.Remove(draft)
	}
	return err
}

func isDescriptor(path string) bool {
	return strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/")
}

// writeDescriptor writes to a descriptor that we were started with. One of a file goes on where its other writers are; others
// are opened anew, so that they can be given up.
func writeDescriptor(path string, text []byte, patience time.Duration) error {
	fd, err := strconv.Atoi(filepath.Base(path))
	if err != nil {
		return unix.ENOENT
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 { // our own
		return unix.EBADF
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return writeStream(path, text, patience)
	}
	if fd, err = unix.Dup(fd); err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), path)
	return errors.Join(write(f, st.Size, text), f.Close())
}

func writeStream(path string, text []byte, patience time.Duration) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	_ = f.SetWriteDeadline(time.Now().Add(patience))
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// write refuses what RLIMIT_FSIZE forbids: the kernel would send us SIGXFSZ besides.
func write(f *os.File, size int64, text []byte) error {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &limit) == nil && uint64(limit.Cur) < uint64(size)+uint64(len(text)) {
		return unix.EFBIG
	}
	_, err := f.Write(text)
	return err
}
