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

// writeReport writes the report where one is wanted. Should it fail the run is what it was.
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
		// The draft has the same name in every process of the run: what a killed one has left is removed by the next.
		err = p.report.Write(text, ".graceful-"+r.ID, min(time.Second, r.Config.Patience()))
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
