//go:build unix && !linux

package integration_test

// Storms are Linux's alone: only there is everything promised to be found.
func forks(int)      {}
func relay(int)      {}
func breed(int)      {}
func exhaust(string) {}

// There is no guard elsewhere.
func guardOf(graceful int) int { return graceful }
