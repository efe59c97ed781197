package process

import (
	"time"

	"golang.org/x/sys/unix"
)

// SinceBoot returns the time since boot (CLOCK_BOOTTIME), which is the same for all processes.
func SinceBoot() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return time.Duration(now.Nano())
}
