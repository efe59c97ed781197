package tree

import "golang.org/x/sys/unix"

// Sight is what can be seen of a tree.
type Sight struct {
	Proc   bool // /proc shows our own PID namespace
	Lists  bool // and lists the children of each process, so that not everybody has to be looked at
	Others bool // and other users' processes too (hidepid)
}

// Sight tells what can be seen.
func (t *Tree) Sight() Sight {
	if t.proc == nil {
		return Sight{}
	}
	_, others := t.proc.Read(1) // it is always there, and root's or we are root
	return Sight{Proc: true, Lists: t.proc.HasChildren(), Others: others}
}

// Pins tells whether signal can be sure whom it signals, or why not.
func Pins() error {
	fd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.PidfdSendSignal(fd, 0, nil, 0)
}
