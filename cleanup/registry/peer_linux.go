package registry

import "golang.org/x/sys/unix"

// peerOf tells who is at the other end (unix(7), SO_PEERCRED): who has connected, or who listens. The pid is 0 where that
// process is in none of our PID namespaces.
func peerOf(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: int(cred.Uid), PID: int(cred.Pid)}, nil
}
