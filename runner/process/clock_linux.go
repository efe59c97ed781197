package process

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is the time since the machine was started, the same for all processes.
func SinceBoot() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return time.Duration(now.Nano())
}
