//go:build unix && !linux

package cmd

// blockTTOU is Linux's: elsewhere a message to a terminal with TOSTOP set, from its background, stops us until we
// are continued.
func blockTTOU() {}
