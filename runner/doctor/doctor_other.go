//go:build unix && !linux

package doctor

// limits returns none: the tried run fails if a limit is too low.
func limits() []string { return nil }

// mayKill reports that root may signal every process.
func mayKill() bool { return true }

// fileSystem knows no file systems here, and treats each as permanent.
func fileSystem(string) (why string, ends bool) { return "", false }

// endsWithGraceful returns "": there is no guard.
func endsWithGraceful() string { return "" }
