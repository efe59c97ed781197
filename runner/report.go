package runner

import (
	"errors"
	"fmt"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"graceful/cleanup"
	"graceful/runner/report"
	"graceful/runner/tree"
)

// writeReport writes the report of a run. A nil history means that the run writes none.
func (p *processes) writeReport(r Run, h *report.History) error {
	if h == nil {
		return nil
	}
	doc := h.Report(r.Run, time.Now())
	doc.Version, doc.Writer = "unknown", unix.Getpid()
	if p.supervisor != 0 {
		doc.Supervisor = &p.supervisor
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		doc.Version = info.Main.Version
	}
	if doc.Level = string(p.tree.Level()); r.Cgroup != "" {
		doc.Level = string(tree.Cgroup)
	}
	text, err := cleanup.EncodeIndentedJSON(doc)
	if err == nil {
		// The draft has the same name in each process of the run. So a process replaces the draft that a killed one left.
		err = p.report.Write(text, ".graceful-"+r.ID, min(time.Second, r.Config.Patience()))
	}
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) { // without names of files that the user does not know
			err = errno
		}
		return fmt.Errorf("writing report %s: %w", r.Config.Report, err)
	}
	return nil
}
