package runner

import (
	"fmt"
	"log/slog"
	"os"

	"graceful/cleanup/ledger"
	"graceful/cleanup/registry"
	"graceful/forward/listen"
	"graceful/runner/machine"
	"graceful/runner/process"
	"graceful/runner/procfs"
	"graceful/runner/tree"

	"golang.org/x/sys/unix"
)

// prepare takes over the process. It acquires all that the run needs later, threads included.
func prepare(config Config, inherit process.Inherited, log *slog.Logger) (*processes, error) {
	devNull, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil { // a root directory without /dev: cleanup commands read from an empty pipe
		if devNull, err = process.EmptyInput(); err != nil {
			return nil, fmt.Errorf("standard input for cleanup commands: %w", err)
		}
	}
	contained, warnings, err := tree.Open(config.Contain)
	if err != nil {
		return nil, fmt.Errorf("containment %s: %w", config.Contain, err)
	}
	for _, w := range warnings {
		log.Warn("containment is limited", "level", string(contained.Level()), "err", w)
	}
	listener := listen.Start(inherit.Ignored)
	process.SettleThreads()
	return &processes{
		tree: contained, listener: listener, inherit: inherit, devNull: devNull, socket: -1, deferring: config.Defer,
		exits: make(chan procfs.Identity), pidfds: make(chan struct{}, maxPidfds()),
	}, nil
}

// maxPidfds returns a quarter of RLIMIT_NOFILE. The server of the socket takes another quarter at most. The run needs
// the rest: it cannot start a process without a pipe, or find one without a file of /proc.
func maxPidfds() int {
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) != nil {
		return 0
	}
	return int(min(uint64(files.Cur)/4, 1<<16))
}

func (p *processes) makeCgroup(r Run) error {
	if err := p.tree.MakeCgroup(r.Cgroup); err != nil {
		return fmt.Errorf("containment %s: %w", r.Config.Contain, err)
	}
	return nil
}

// system returns p as the operating system of a loop.
func (p *processes) system() system { return system{p, p, p.tree, p, p.tree, p, p, p} }

// newLoop returns a loop that resumes the run m. runLedger is nil if the run has no ledger.
func (p *processes) newLoop(m remembered, runLedger *ledger.Ledger, log *slog.Logger) *loop {
	p.tree.Confine(m.run.Cgroup)
	l := &loop{
		run: m.run, began: m.Began, sys: p.system(), log: log, record: recorder{history: m.history},
		in: inputs{
			signals: p.listener.Signals, children: p.listener.Children,
			parentGone: p.parentGone, broken: p.pty.Broken(),
		},
	}
	if runLedger != nil { // a nil pointer would make the interface non-nil
		l.record.ledger = runLedger
	}
	if m.run.Target.Ended { // a process that was killed may have recorded this and not acted on it
		p.targetEnded(m.run)
	}
	if p.socket >= 0 && m.run.State != machine.Done {
		l.in.requests, l.in.exits = registry.Serve(p.socket, procfs.StartOf).Calls, p.exits
	}
	if m.run.State >= machine.Cleaning { // the same
		p.cleaning()
		l.disband()
	}
	return l
}
