package runner

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"graceful/cleanup/registry"
	"graceful/runner/procfs"
)

// admit returns an error if --defer does not admit the process that makes the request c. With DeferAuto it also returns
// an error if the rights of that process or those of graceful cannot be read. The loop calls admit at each request,
// because a process may enter a sandbox after it has connected.
func (sys *realSystem) admit(c registry.Call) error {
	if sys.deferChoice == DeferOn {
		return nil
	}
	if c.Peer.PID == 0 {
		return notAdmitted(errors.New("it is in a PID namespace that graceful cannot see"))
	}
	theirs, err := peerRights(c)
	if err != nil {
		return notAdmitted(fmt.Errorf("it cannot be looked at: %w", err))
	}
	ours, err := rightsOf("self", os.Geteuid())
	if err != nil {
		return fmt.Errorf("reading the rights of graceful: %w", err)
	}
	if why := ours.missing(theirs); why != "" {
		return notAdmitted(errors.New(why))
	}
	return nil
}

// peerRights returns the rights of the process that has connected. It never returns the rights of a later process with
// the same pid. To make sure, it uses a pidfd of the peer (SO_PEERPIDFD, Linux 6.5). Without a pidfd, the start time
// of the process must be the same at the connection, before the rights are read, and after they are read.
func peerRights(c registry.Call) (r rights, err error) {
	pidfd, unpinned := c.PeerPIDFD()
	if unpinned == nil {
		defer unix.Close(pidfd)
	}
	start := procfs.StartOf(c.Peer.PID)
	if start == 0 {
		return r, errors.New("/proc does not show it")
	}
	r, err = rightsOf(strconv.Itoa(c.Peer.PID), c.Peer.UID)
	sameProcess := start == c.Peer.Start && start == procfs.StartOf(c.Peer.PID)
	if unpinned == nil && hasEnded(pidfd) || unpinned != nil && !sameProcess {
		return r, errors.New("it has ended")
	}
	return r, err
}

// rightsOf reads the rights of a process. pid is the name of the process's directory in /proc, and user is the
// effective user id of the process.
func rightsOf(pid string, user int) (r rights, err error) {
	text, err := procfs.Read(pid + "/status")
	if err != nil {
		return r, err
	}
	if r.Status, err = procfs.ParseStatus(string(text)); err != nil {
		return r, fmt.Errorf("reading /proc/%s/status: %w", pid, err)
	}
	r.uid = user
	r.userNamespace, _ = procfs.Readlink(pid + "/ns/user")
	r.mountNamespace, _ = procfs.Readlink(pid + "/ns/mnt")
	if root, err := procfs.Stat(pid + "/root/."); err == nil {
		r.rootDir = fmt.Sprint(root.Dev, " ", root.Ino)
	}
	return r, nil
}
