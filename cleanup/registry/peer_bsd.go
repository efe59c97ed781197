//go:build darwin || freebsd

package registry

import "golang.org/x/sys/unix"

// peerOf tells whose process is at the other end (unix(4), LOCAL_PEERCRED), and not which.
func peerOf(fd int) (Peer, error) {
	const solLocal = 0
	cred, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: int(cred.Uid)}, nil
}

func (s *Server) startUnpinned(int, Peer) uint64 { return 0 }
