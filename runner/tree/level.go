// Package tree finds, signals and empties the tree of processes below us, at each level of containment.
// It does what it is told and does not know why.
package tree

// Level is how the tree is held together.
type Level string

// The levels. Auto takes the best that needs no privilege and leaves no trace, so never Cgroup, which is Subreaper and
// more.
const (
	Auto      Level = "auto"
	Subreaper Level = "subreaper"
	Group     Level = "group"
	Cgroup    Level = "cgroup"
)

// Levels lists them, the default first.
func Levels() []Level { return []Level{Auto, Subreaper, Group, Cgroup} }
