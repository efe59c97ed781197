// Package forward decides what each signal means to a run and hears the signals that are sent to us.
//
// It knows nothing of processes: what is done about a signal is the runner's business.
package forward

import (
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Meaning is what a signal that reaches us asks for.
type Meaning uint8

const (
	// Pass: hand it on, it means nothing to us.
	Pass Meaning = iota
	// Stop: begin the stop, then hand it on.
	Stop
	// Suspend: the target's group stops, then we do (job control).
	Suspend
	// Ours: about our own children and writes; nobody else's business.
	Ours
	// Uncatchable: the kernel or the Go runtime keeps it from us.
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
		return Ours // the reaper's nudge
	case unix.SIGPIPE:
		return Ours // caused by our own writes; sent by hand it would be a mistake to pass on
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

// Audible lists the signals that a Listener hears.
func Audible() (signals []syscall.Signal) {
	for sig := syscall.Signal(1); sig <= Last; sig++ {
		if m := MeaningOf(sig); m != Ours && m != Uncatchable {
			signals = append(signals, sig)
		}
	}
	return signals
}
