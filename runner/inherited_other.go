//go:build unix && !linux

package runner

import (
	"errors"
	"os/signal"
	"syscall"

	"graceful/forward"
)

type signalMask struct{}

// readInherited knows of SIGHUP and SIGINT only: the Go runtime has replaced the other dispositions.
func readInherited() inherited {
	var in inherited
	for sig := syscall.Signal(1); sig <= forward.Last; sig++ {
		if signal.Ignored(sig) {
			in.ignored = append(in.ignored, sig)
		}
	}
	return in
}

// block and setMask do nothing: the runtime's mask is that of our parent but for the few signals that it needs.
func block([]syscall.Signal) (before signalMask) { return before }

func setMask(mask signalMask) signalMask { return mask }

// unreadable says what readInherited misses.
func unreadable() error { return errors.New("of the ignored signals only HUP and INT are known here") }
