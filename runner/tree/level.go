// Package tree finds, signals and empties the tree of processes below us, at each level of containment.
// It does what it is told and does not know why.
package tree

import (
	"fmt"
	"slices"
	"strings"
)

// Level is how the tree is held together.
type Level string

// The levels, weakest last. Auto takes the best that needs no privilege and leaves no trace.
const (
	Auto      Level = "auto"
	Subreaper Level = "subreaper"
	Group     Level = "group"
)

// Levels lists them, the default first.
func Levels() []Level { return []Level{Auto, Subreaper, Group} }

// ParseLevel reads a level's name.
func ParseLevel(s string) (Level, error) {
	if l := Level(s); slices.Contains(Levels(), l) {
		return l, nil
	}
	names := make([]string, 0, 3)
	for _, l := range Levels() {
		names = append(names, string(l))
	}
	return "", fmt.Errorf("%q is no level of containment (%s)", s, strings.Join(names, ", "))
}
