package doctor

import (
	"cmp"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"graceful/forward"
	"graceful/runner"
	"graceful/runner/process"
)

// The checks in this file examine what graceful gets from the process that started graceful: signals, parent, terminal.

func examineSignals(c *Check) {
	in := process.ReadInherited()
	c.Detail = "ignored " + signalNames(in.Ignored) + ", blocked " + signalNames(in.Blocked)
	if err := process.ReadInheritedError(); err != nil {
		c.lower(Partly,
			fmt.Sprintf("graceful may miss a signal that was ignored or blocked when graceful was started: %v", err), "")
	}
}

// signalNames returns the names of signals, separated by blanks, or "none".
func signalNames(signals []syscall.Signal) string {
	var names []string
	for _, s := range signals {
		names = append(names, forward.Name(s))
	}
	return cmp.Or(strings.Join(names, " "), "none")
}

func examineParent(c *Check) {
	c.Detail = fmt.Sprintf("process %d", unix.Getppid())
	switch ended, err := runner.ProbeParent(); {
	case err != nil:
		c.lower(No, err.Error(), "")
	case ended:
		c.lower(No, "it has ended, or it is PID 1, which no process outlives", "")
	}
}

func examineTerminal(c *Check) {
	c.Detail = "standard input is not graceful's controlling terminal"
	foreground, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	if err != nil {
		return
	}
	c.Detail = "standard input is a terminal, and graceful is in its background: the target waits for the foreground"
	switch own := unix.Getpgrp(); own {
	case 0: // getpgrp(2) returns 0 for a process group of an outer PID namespace
		c.lower(Partly,
			"the process group of graceful is of another PID namespace, and cannot take the foreground back",
			"start graceful with setsid -c -w")
	case foreground:
		c.Detail = "standard input is a terminal, and graceful is in its foreground"
	}
}
