//go:build unix && !linux

package runner

import "errors"

func unreadable() (hint string, why error) {
	return "", errors.New("of the ignored ones HUP and INT are known")
}

func limits() []string { return nil }

func fileSystem(string) (why string, ends bool) { return "", false }
