//go:build unix && !linux

package integration_test

// On other systems, the roles that create storms of processes do nothing, because graceful finds all processes only on
// Linux.
func forks(int)      {}
func relay(int)      {}
func breed(int)      {}
func exhaust(string) {}

// Other systems have no guard.
func guardOf(graceful int) int { return graceful }
