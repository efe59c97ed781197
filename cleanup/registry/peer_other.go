//go:build unix && !linux && !darwin && !freebsd

package registry

import "errors"

// peerOf fails, so the server accepts no request on this system, and a client sends none.
func peerOf(int) (Peer, error) {
	return Peer{}, errors.New("this system does not report the user of a connection")
}

// startUnpinned returns 0: the pid of a peer is unknown.
func (s *Server) startUnpinned(*connection) uint64 { return 0 }
