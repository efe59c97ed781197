package procfs

import "time"

// UserHZ is how many clock ticks a second has outside of the kernel (proc_pid_stat(5)).
const UserHZ = 100

// Identity names one process until the machine restarts: pids are used again, start times are not.
type Identity struct {
	PID   int
	Start uint64 // clock ticks since boot; 0: unknown
}

// BornBefore reports whether a process was certainly started before a moment, given as the time since boot.
func (id Identity) BornBefore(moment time.Duration) bool {
	return id.Start != 0 && time.Duration(id.Start+1)*time.Second/UserHZ <= moment
}

// Moment is a point in time by which births can be told apart. Start times alone are too coarse for that (10 ms).
type Moment struct {
	Tick uint64 // clock ticks since boot
	PID  int    // the last one that was given to a process; 0: unknown
}

// Precedes reports whether a process was born after the moment. In doubt it was not.
func (m Moment) Precedes(id Identity) bool {
	if id.Start != m.Tick || m.PID == 0 {
		return id.Start > m.Tick
	}
	// Pids are given in ascending order (pid_namespaces(7)) and begin again from the lowest. Within one tick the two numbers
	// are near each other.
	const far = 1 << 14
	return id.PID > m.PID && id.PID-m.PID < far || m.PID-id.PID > far
}
