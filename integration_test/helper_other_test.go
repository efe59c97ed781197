//go:build unix && !linux

package integration_test

// Other systems have no storms: only on Linux does graceful find all processes.
func forks(int)      {}
func relay(int)      {}
func breed(int)      {}
func exhaust(string) {}

// Other systems have no guard.
func guardOf(graceful int) int { return graceful }
