package integration_test

import (
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// graceful exits with the status of its target, from 0 to 255. Cleanup commands get the status.
func TestExitStatus_ofTheTarget(t *testing.T) {
	t.Parallel()
	for n := range 256 {
		p := start(t, "graceful", "run", "--on-exit", "echo >>cleaned $GRACEFUL_EXIT_CODE", "--", "sh", "-c",
			fmt.Sprint("exit ", n))
		p.want(strconv.Itoa(n))
		p.wantFile("cleaned", fmt.Sprintln(n))
	}
}

// harmless lists the signals that do not end a process by default.
var harmless = []syscall.Signal{unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH,
	unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU}

// If signal N ends the target, graceful exits with 128+N, and the cleanup command runs.
func TestExitStatus_fatalSignal(t *testing.T) {
	need(t, "linux")
	t.Parallel()
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if slices.Contains(harmless, sig) {
			continue
		}
		p := start(t, "graceful", "run", "--on-exit", "echo >>cleaned $GRACEFUL_REASON", "--", "helper", "die",
			strconv.Itoa(int(sig)))
		p.want(strconv.Itoa(128 + int(sig)))
		p.wantFile("cleaned", "signaled\n")
	}
}
