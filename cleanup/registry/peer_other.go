//go:build unix && !linux && !darwin && !freebsd

package registry

import "errors"

// peerOf fails: on other systems the server accepts no request.
func peerOf(int) (Peer, error) {
	return Peer{}, errors.New("this system does not report the user of a connection")
}

// startUnpinned returns 0: the pid of a peer is unknown.
func (s *Server) startUnpinned(*connection) uint64 { return 0 }
