package tree

// Level is how the members of a run are held together.
type Level string

// The levels. Auto is Subreaper where this machine keeps its promise, else Group. Cgroup is Subreaper plus a cgroup.
// Auto never selects it: it needs privileges and leaves a trace in the file system.
const (
	Auto      Level = "auto"
	Subreaper Level = "subreaper"
	Group     Level = "group"
	Cgroup    Level = "cgroup"
)

// Levels returns all levels, the default first.
func Levels() []Level { return []Level{Auto, Subreaper, Group, Cgroup} }
