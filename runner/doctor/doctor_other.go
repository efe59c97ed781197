//go:build unix && !linux

package doctor

// limits finds none: the tried run fails where one is too low.
func limits() []string { return nil }

// mayKill reports that root may signal every process.
func mayKill() bool { return true }

// fileSystem knows no file system of these systems, and takes each for permanent.
func fileSystem(string) (why string, ends bool) { return "", false }

// endsWithGraceful returns "": there is no guard.
func endsWithGraceful() string { return "" }
