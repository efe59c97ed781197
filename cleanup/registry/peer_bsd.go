//go:build darwin || freebsd

package registry

import "golang.org/x/sys/unix"

// peerOf returns the user of the process at the other end (unix(4), LOCAL_PEERCRED). The pid of that process is
// unknown.
func peerOf(fd int) (Peer, error) {
	const solLocal = 0
	cred, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: int(cred.Uid)}, nil
}

// startUnpinned returns 0: the pid of a peer is unknown.
func (s *Server) startUnpinned(*connection) uint64 { return 0 }
