//go:build unix && !linux

package doctor

// limits returns nil. If a limit is too low, the tried run fails.
func limits() []string { return nil }

// mayKill returns true, because root may signal every process on this system.
func mayKill() bool { return true }

// fileSystem treats each file system as permanent, because it cannot identify them on this system.
func fileSystem(string) (why string, ends bool) { return "", false }

// endsWithGraceful returns "", because there is no guard.
func endsWithGraceful() string { return "" }
