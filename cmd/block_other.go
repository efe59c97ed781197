//go:build unix && !linux

package cmd

// blockOwn is Linux's: elsewhere a message to a terminal with TOSTOP set, from its background, stops us until we
// are continued, and one that RLIMIT_FSIZE forbids sends the target a SIGXFSZ.
func blockOwn() {}
