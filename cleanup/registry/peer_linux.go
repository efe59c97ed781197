package registry

import (
	"errors"

	"golang.org/x/sys/unix"
)

// peerOf returns the process at the other end: the one that has connected, or the one that listens (unix(7),
// SO_PEERCRED). The pid is 0 if the process is not visible in graceful's PID namespace.
func peerOf(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: int(cred.Uid), PID: int(cred.Pid)}, nil
}

// PeerPIDFD returns a pidfd of the process that has connected (SO_PEERPIDFD, Linux 6.5), which the caller must close.
// The pidfd refers to the same process even after the kernel has reused the pid.
func (c Call) PeerPIDFD() (pidfd int, err error) {
	var optErr error
	err = c.conn.control(func(fd int) { pidfd, optErr = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD) })
	return pidfd, errors.Join(err, optErr)
}

// startUnpinned returns the start time of a peer without a pidfd (Linux before 6.5). For a peer with a pidfd it returns
// 0.
func (s *Server) startUnpinned(c *connection) uint64 {
	pidfd, err := Call{conn: c}.PeerPIDFD()
	if err != nil {
		return s.startOf(c.peer.PID)
	}
	unix.Close(pidfd)
	return 0
}
