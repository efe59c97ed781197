// Package forward decides what each signal means to a run. It knows nothing of processes.
package forward

import (
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signal is a signal's number, in every package.
type Signal = syscall.Signal

// Meaning is what a signal to graceful asks for.
type Meaning uint8

const (
	// Pass: forward it to the target.
	Pass Meaning = iota
	// Stop: begin the stop, then forward it.
	Stop
	// Suspend: suspend the target's group, then graceful (job control).
	Suspend
	// Ours: about graceful's own children and writes; never forwarded.
	Ours
	// Uncatchable: the kernel or the Go runtime keeps it from graceful.
	Uncatchable
)

// MeaningOf is the signal table. A number outside 1..Last is Uncatchable.
func MeaningOf(sig syscall.Signal) Meaning {
	switch sig {
	case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT:
		return Stop
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return Suspend
	case unix.SIGCHLD:
		return Ours // it wakes the reaper
	case unix.SIGPIPE:
		return Ours // our own writes cause it
	case unix.SIGURG:
		return Ours // the Go runtime preempts goroutines with it, hundreds of times a second
	case unix.SIGKILL, unix.SIGSTOP:
		return Uncatchable
	}
	if sig < 1 || sig > Last || slices.Contains(runtimeOnly, sig) {
		return Uncatchable
	}
	return Pass
}

// Audible lists the signals that a listener hears.
func Audible() (signals []syscall.Signal) {
	for sig := syscall.Signal(1); sig <= Last; sig++ {
		if m := MeaningOf(sig); m != Ours && m != Uncatchable {
			signals = append(signals, sig)
		}
	}
	return signals
}
