package tree

// Sight is what graceful can see of processes.
type Sight struct {
	Proc   bool // /proc shows graceful's own PID namespace
	Lists  bool // /proc lists the children of each process, so that not every process must be read
	Others bool // /proc shows the processes of other users too (no hidepid)
}

// Sight returns what graceful can see here. Outside of Linux that is nothing.
func (t *Tree) Sight() Sight {
	if t.proc == nil {
		return Sight{}
	}
	const initPID = 1 // exists always, and belongs to root unless graceful is root
	_, others := t.proc.Read(initPID)
	return Sight{Proc: true, Lists: t.proc.HasChildren(), Others: others}
}
