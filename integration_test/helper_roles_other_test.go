//go:build unix && !linux

package integration_test

// Other systems have no roles that create storms of processes, because graceful finds all processes only on Linux.
func forks(int)      {}
func relay(int)      {}
func breed(int)      {}
func exhaust(string) {}

// Other systems have no guard.
func guardOf(graceful int) int { return graceful }
