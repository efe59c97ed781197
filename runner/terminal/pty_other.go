//go:build unix && !linux

package terminal

func neverStopped() {}
