//go:build unix && !linux

package doctor

// limits returns nil. If a limit is too low, the tried run fails.
func limits() []string { return nil }

// mayKill returns true: graceful calls it only as root, which may signal every process on this system.
func mayKill() bool { return true }

// fileSystem treats each file system as permanent, because graceful does not identify file systems on this system.
func fileSystem(string) (why string, ends bool) { return "", false }

// endsWithGraceful returns "", because a run has no guard on this system.
func endsWithGraceful() string { return "" }
