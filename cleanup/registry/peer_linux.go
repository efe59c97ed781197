package registry

import (
	"errors"

	"golang.org/x/sys/unix"
)

// peerOf tells who is at the other end (unix(7), SO_PEERCRED): who has connected, or who listens. The pid is 0 where that
// process is in none of our PID namespaces.
func peerOf(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: int(cred.Uid), PID: int(cred.Pid)}, nil
}

// PeerPIDFD returns a pidfd of the process that has made the connection, which the caller closes (SO_PEERPIDFD, Linux 6.5).
// It names that process also when its pid has become another's.
func (c Call) PeerPIDFD() (pidfd int, err error) {
	raw, err := c.conn.file.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { pidfd, failed = peerPIDFD(int(fd)) })
	return pidfd, errors.Join(err, failed)
}

func peerPIDFD(fd int) (int, error) {
	return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
}

// startUnpinned is the start time of a process that no pidfd can be had of, or 0.
func (s *Server) startUnpinned(fd int, peer Peer) uint64 {
	pidfd, err := peerPIDFD(fd)
	if err == nil {
		unix.Close(pidfd)
		return 0
	}
	return s.startOf(peer.PID)
}
